"""Drivers of leaf devices and their SDK; each driver runs as its own process and talks DMI."""
