"""The sync path without I/O: messages, sessions, record index, and the codec with its compiled twin."""
