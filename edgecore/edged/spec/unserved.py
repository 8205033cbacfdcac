"""Which volumes of a Pod this node does not serve; pure. For all other fields see `fields.py`."""

from __future__ import annotations

from typing import Any

_TOKENS = "service account tokens are not served yet: set automountServiceAccountToken: false"


def unserved_volume(tree: dict[str, Any]) -> tuple[str, str] | None:
    """Return (volume name, reason) of the first volume that this node cannot make, or None."""
    for volume in tree.get("spec", {}).get("volumes", []):
        if problem := _volume_problem(volume):
            return str(volume["name"]), problem
    return None


def _volume_problem(volume: dict[str, Any]) -> str:
    kinds = [k for k in volume if k != "name"]
    for kind in kinds:
        if kind not in ("emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected"):
            return f"volume type {kind} is not served yet"
    medium = volume.get("emptyDir", {}).get("medium", "")
    if medium not in ("", "Memory"):
        return f"emptyDir medium {medium} is not served yet"
    for source in volume.get("projected", {}).get("sources", []):
        for kind in source:
            if kind == "serviceAccountToken":
                return _TOKENS
            if kind not in ("configMap", "secret", "downwardAPI"):
                return f"projected volume source {kind} is not served yet"
    return "" if kinds else "no volume type is set"
