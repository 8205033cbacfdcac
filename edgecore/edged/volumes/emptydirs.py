"""emptyDir: a folder or a tmpfs of the pod's own, made once in its life (a tmpfs again after a boot); blocks."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from edgecore.edged.spec.podspec import EmptyDir, Pod
from edgecore.edged.spec.quantity import ceil_of, parse_quantity
from edgecore.edged.volumes import mounts
from edgecore.edged.volumes.ownership import fs_group, own_root


def prepare_empty_dir(
    path: Path, ready: Path, empty_dir: EmptyDir, pod: Pod, allocatable: Mapping[str, Decimal]
) -> None:
    """Make `path`; `ready` is a file that says it was done, because what containers changed since is theirs.

    Raises:  OSError.
    """
    path.mkdir(parents=True, exist_ok=True)
    in_memory = empty_dir.medium == "Memory" and mounts.can_mount()
    if ready.exists() and (not in_memory or path.is_mount()):
        return
    if in_memory and not path.is_mount():
        mounts.mount_tmpfs(path, tmpfs_bytes(empty_dir, pod, allocatable))
    path.chmod(0o777)  # any user of any container may write, as kubelet has it
    if (group := fs_group(pod)) is not None:
        own_root(path, group)
    ready.parent.mkdir(parents=True, exist_ok=True)
    ready.touch()


def tmpfs_bytes(empty_dir: EmptyDir, pod: Pod, allocatable: Mapping[str, Decimal]) -> int:
    """Return the size of a tmpfs: the least of what the node, the pod and the volume allow; 0: the kernel's default.

    Source: kubelet's SizeMemoryBackedVolumes.
    """
    bounds = [allocatable.get("memory", Decimal(0))]
    limits = [c.resources.limits.get("memory") for c in pod.spec.containers]
    if all(limit is not None for limit in limits):  # one without a limit may use the whole node
        bounds.append(sum((parse_quantity(x) for x in limits if x is not None), Decimal(0)))
    if empty_dir.size_limit is not None:
        bounds.append(parse_quantity(empty_dir.size_limit))
    return ceil_of(min((b for b in bounds if b > 0), default=Decimal(0)))
