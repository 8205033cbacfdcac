"""Containers as plain processes, for nodes without a container runtime."""

from edgecore.edged.process.runtime import ProcessRuntime

__all__ = ["ProcessRuntime"]
