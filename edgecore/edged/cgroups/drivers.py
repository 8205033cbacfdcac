"""How pods' cgroups are kept on a node: written by the agent, or made by systemd; blocks, for use in threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edgecore.edged.cgroups.names import path_of_all, pod_path, pod_slice, slice_of_all
from edgecore.edged.cgroups.slices import SliceTree
from edgecore.edged.cgroups.tree import CgroupTree
from edgecore.edged.runtime import ContainerLimits
from edgecore.edged.spec.podspec import Pod
from edgecore.edged.spec.resources import pod_limits


class Tree(Protocol):
    """Groups by their names, which `pods` finds again below the setting `pods.cgroup_root`."""

    def ensure(self, name: str, limits: ContainerLimits, pids: int, /) -> None:
        """Have the group with its limits. Raises: OSError. Shapes: pids: 0 for no limit."""

    def remove(self, name: str, /) -> None:
        """Remove the group with what a runtime left in it; what is in use stays."""

    def pods(self, root: str, /) -> dict[str, str]:
        """Return pod uid -> name of every pod's group."""

    def memory_folder(self, name: str, /) -> Path:
        """Return where the memory of the group is counted; it need not exist."""


class PodCgroups:
    """The cgroups of a node's pods.

    Shapes:  root: the setting `pods.cgroup_root`. name: the group of a pod below it, as the runtime wants it named.
             all_pods: the group that holds them all.
    """

    def __init__(
        self, root: str, tree: Tree, name: Callable[[Pod, str], str], all_pods: str
    ) -> None:
        self._root, self._tree, self._name, self._all_pods = root, tree, name, all_pods

    def limit_all(self, limits: ContainerLimits) -> None:
        """Keep all pods together within `limits`. Raises: OSError."""
        self._tree.ensure(self._all_pods, limits, 0)

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

    @property
    def memory_folder(self) -> Path:
        """Return where the memory of all pods together is counted; it need not exist."""
        return self._tree.memory_folder(self._all_pods)


def file_cgroups(root: str, tree: CgroupTree) -> PodCgroups:
    """Return the driver `cgroupfs`: this agent and the runtime write the files."""
    return PodCgroups(root, tree, pod_path, path_of_all(root))


def slice_cgroups(root: str, tree: SliceTree) -> PodCgroups:
    """Return the driver `systemd`: it keeps the slices, and the runtime asks it for scopes in them."""
    return PodCgroups(root, tree, pod_slice, slice_of_all(root))
