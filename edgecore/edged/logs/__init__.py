"""Log files of containers: rotation by size and count, and the links that log shippers read; knows no workers."""
