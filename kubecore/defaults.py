"""Defaults of the built-in kinds, as the API server's `SetDefaults_*` fill them in."""

from __future__ import annotations

from typing import Any

from kubecore.registry import Resource


def apply_builtin_defaults(resource: Resource, obj: dict[str, Any]) -> None:
    """Fill in, in place, what the sender left out."""
