"""Containers by CRI v1 over gRPC on a unix socket: containerd, CRI-O."""

from edgecore.edged.cri.runtime import CriRuntime

__all__ = ["CriRuntime"]
