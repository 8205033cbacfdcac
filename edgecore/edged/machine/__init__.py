"""From what runs and what is remembered to the next actions and the status; pure: no I/O, no clock."""
