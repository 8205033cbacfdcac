"""Where a pod's cgroup lies, by its class of service; pure. Source: kubelet's cgroup manager."""

from __future__ import annotations

from edgecore.edged.spec.podspec import Pod
from edgecore.edged.spec.resources import qos_class

ROOT = "kubepods"
CLASSES = ("burstable", "besteffort")  # a Guaranteed pod lies directly below the root


def class_name(pod: Pod) -> str:
    """Return the level between root and pod, "" for a Guaranteed pod."""
    name = qos_class(pod).lower()
    return name if name in CLASSES else ""


def path_of_all(root: str) -> str:
    """Return the cgroup of all pods for the driver cgroupfs. Shapes: root: the setting, `/` or a path below it."""
    return "/" + "/".join(part for part in (*root.split("/"), ROOT) if part)


def slice_of_all(root: str) -> str:
    """Return the slice of all pods for the driver systemd."""
    parts = (*root.replace("-", "_").split("/"), ROOT)
    return "-".join(part for part in parts if part) + ".slice"


def pod_path(pod: Pod, root: str) -> str:
    """Return the cgroup of `pod` for the driver cgroupfs, such as `/kubepods/burstable/pod<uid>`.

    Shapes:  root: the setting, `/` or a path below it.
    """
    parts = (*root.split("/"), ROOT, class_name(pod), f"pod{pod.metadata.uid}")
    return "/" + "/".join(part for part in parts if part)


def pod_slice(pod: Pod, root: str) -> str:
    """Return the slice of `pod` for the driver systemd, such as `kubepods-burstable-pod<uid>.slice`.

    A dash in such a name begins a level, so those of the uid are written as underscores.
    """
    parts = (
        *root.replace("-", "_").split("/"),
        ROOT,
        class_name(pod),
        f"pod{pod.metadata.uid.replace('-', '_')}",
    )
    return "-".join(part for part in parts if part) + ".slice"
