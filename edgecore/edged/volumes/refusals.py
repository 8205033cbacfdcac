"""Volumes that this node does not serve: refused by name and with kubelet's words, never ignored; pure."""

from __future__ import annotations

from typing import Any

from edgecore.edged.volumes.errors import UnmountedError

SERVED = frozenset(
    {
        *("emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected"),
        *("persistentVolumeClaim", "ephemeral"),
    }
)
SERVED_SOURCES = frozenset(["configMap", "secret", "downwardAPI", "serviceAccountToken"])


def refused_volume(tree: dict[str, Any]) -> UnmountedError | None:
    """Return the refusal of the first volume of a pod that this node cannot make, or None.

    Shapes:  tree: the document that `decode_pod` returned.
    """
    for volume in tree.get("spec", {}).get("volumes", ()):
        if problem := _problem(volume):
            name = str(volume["name"])
            plugin = f'failed to get Plugin from volumeSpec for volume "{name}" err='
            return UnmountedError(name, f"{plugin}{problem}")
    return None


def _problem(volume: dict[str, Any]) -> str:
    kinds = [kind for kind in volume if kind != "name"]
    if not kinds:
        return "no volume plugin matched: the volume names no type"
    for kind in kinds:
        if kind not in SERVED:
            return f"no volume plugin matched: type {kind} is not served by this node"
    medium = volume.get("emptyDir", {}).get("medium", "")
    if medium not in ("", "Memory"):
        return f"emptyDir medium {medium} is not served by this node"
    for source in volume.get("projected", {}).get("sources", ()):
        for kind in source:
            if kind not in SERVED_SOURCES:
                return f"projected source {kind} is not served by this node"
    return ""
