"""Drivers of leaf devices and their SDK; each runs as its own process. Empty until the DMI sockets are served."""
