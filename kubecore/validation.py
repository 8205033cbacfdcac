"""Rules of the built-in kinds beyond types: on create, and on what an update may change."""

from __future__ import annotations

from typing import Any

from kubecore.invalid import Cause
from kubecore.registry import Resource


def check_builtin(_resource: Resource, _obj: dict[str, Any]) -> list[Cause]:
    """Return what is wrong with a decoded and defaulted object."""
    return []


def check_update(_resource: Resource, _obj: dict[str, Any], _old: dict[str, Any]) -> list[Cause]:
    """Return what `obj` changes that may not change once `old` is there."""
    return []
