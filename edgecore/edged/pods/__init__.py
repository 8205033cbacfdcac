"""A worker per pod, and the manager that keeps them; all that acts, through seams it does not name."""
