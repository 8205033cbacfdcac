"""Typed values of devices at rate, on their way to the cloud."""
