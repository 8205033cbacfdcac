"""Devices in the cloud: what nodes report of them into their status, and whether they can be served at all."""
