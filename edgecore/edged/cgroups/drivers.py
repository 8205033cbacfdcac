"""How pods' cgroups are kept on a node: written by the agent, or made by systemd; blocks, for use in threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edgecore.edged.cgroups.names import pod_path, pod_slice
from edgecore.edged.cgroups.slices import SliceTree
from edgecore.edged.cgroups.tree import CgroupTree
from edgecore.edged.runtime import ContainerLimits
from edgecore.edged.spec.podspec import Pod
from edgecore.edged.spec.resources import pod_limits
from edgecore.edged.stats.cgroups import read_memory
from edgecore.edged.stats.samples import MemorySample


class Tree(Protocol):
    """Groups by their names, which `pods` finds again below the setting `pods.cgroup_root`."""

    def ensure(self, name: str, limits: ContainerLimits, pids: int, /) -> None:
        """Have the group with its limits. Raises: OSError. Shapes: pids: 0 for no limit."""

    def remove(self, name: str, /) -> None:
        """Remove the group with what a runtime left in it; what is in use stays."""

    def pods(self, root: str, /) -> dict[str, str]:
        """Return pod uid -> name of every pod's group."""

    def limit_all(self, root: str, memory_bytes: int, /) -> None:
        """Limit the group of all pods; 0 for no limit. Raises: OSError."""

    def memory_folder(self, root: str, /) -> Path:
        """Return where the memory of all pods is counted; it need not exist."""


class PodCgroups:
    """The cgroups of a node's pods.

    Shapes:  root: the setting `pods.cgroup_root`. name: the group of a pod below it, as the runtime wants it named.
    """

    def __init__(self, root: str, tree: Tree, name: Callable[[Pod, str], str]) -> None:
        self._root, self._tree, self._name = root, tree, name

    def parent(self, pod: Pod) -> str:
        """Return the cgroup in which the runtime is to put the containers of `pod`."""
        return self._name(pod, self._root)

    def ensure(self, pod: Pod, pids: int) -> None:
        """Have the cgroup of `pod`, with its limits. Raises: OSError. Shapes: pids: 0 for no limit."""
        self._tree.ensure(self.parent(pod), pod_limits(pod), pids)

    def remove(self, uid: str) -> None:
        """Remove the cgroup of a pod of which nothing runs any more; one that is not there is well removed."""
        if name := self._tree.pods(self._root).get(uid):
            self._tree.remove(name)

    def limit_all(self, memory_bytes: int) -> None:
        """Have all pods together use no more memory than that; 0 for no limit. Raises: OSError."""
        self._tree.limit_all(self._root, memory_bytes)

    def memory(self) -> MemorySample | None:
        """Return what all pods together use and may use of memory, None if nobody counts it."""
        return read_memory(self._tree.memory_folder(self._root))


def file_cgroups(root: str, tree: CgroupTree) -> PodCgroups:
    """Return the driver `cgroupfs`: this agent and the runtime write the files."""
    return PodCgroups(root, tree, pod_path)


def slice_cgroups(root: str, tree: SliceTree) -> PodCgroups:
    """Return the driver `systemd`: it keeps the slices, and the runtime asks it for scopes in them."""
    return PodCgroups(root, tree, pod_slice)
