"""The cgroups of classes and pods in the kernel's file system, version 1 or 2; blocks, for use in threads."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgecore.edged.cgroups.names import CLASSES, ROOT
from edgecore.edged.runtime import ContainerLimits
from edgecore.edged.spec.resources import MAX_SHARES, MIN_SHARES, huge_page_name

logger = logging.getLogger(__name__)

MOUNT = Path("/sys/fs/cgroup")
HUGE_PAGES = Path("/sys/kernel/mm/hugepages")
_V1 = (
    "cpu",
    "memory",
    "pids",
)  # whose files are written here; a runtime makes its own for the others
_V2 = ("cpu", "cpuset", "memory", "pids", "hugetlb", "io")


class CgroupTree:
    """Makes, limits and removes cgroups below `mount`.

    Shapes:  path (of every method): as `names.pod_path` returns it.
    """

    def __init__(self, mount: Path = MOUNT) -> None:
        self._mount = mount
        self.unified = (mount / "cgroup.controllers").exists()

    def problem(self, root: str) -> str:
        """Return why no cgroups can be kept below `root` on this machine, or ""."""
        try:
            for folder in self._folders(f"{root}/{ROOT}"):
                folder.mkdir(parents=True, exist_ok=True)
                if not (
                    folder / "cgroup.procs"
                ).exists():  # an ordinary folder: nothing is mounted there
                    folder.rmdir()
                    return f"{folder} is no cgroup"
        except OSError as exc:
            return f"{exc.filename}: {exc.strerror}"
        return ""

    def ensure(self, path: str, limits: ContainerLimits, pids: int) -> None:
        """Make the cgroup at `path` with its limits. Raises: OSError.

        Shapes:  pids: 0 for no limit.
        """
        for folder in self._folders(path):
            if self.unified:
                self._delegate(folder.parent)
            folder.mkdir(parents=True, exist_ok=True)
            for name, value in self._values(limits, pids).items():
                if (folder / name).exists():
                    (folder / name).write_text(value)
        self._weigh_classes(path)

    def remove(self, path: str) -> None:
        """Remove the cgroup at `path` with what a runtime left in it; what is in use stays."""
        for hierarchy in self._hierarchies():
            folder = hierarchy / path.lstrip("/")
            try:
                _remove(folder)
            except OSError as exc:
                logger.debug("cgroup %s stays: %s", folder, exc.strerror)

    def pods(self, root: str) -> dict[str, str]:
        """Return pod uid -> path of every pod's cgroup below `root`."""
        found: dict[str, str] = {}
        for level in ("", *CLASSES):
            base = "/".join(part for part in (root.rstrip("/"), ROOT, level) if part)
            for hierarchy in self._hierarchies():
                for folder in (hierarchy / base.lstrip("/")).glob("pod*"):
                    found[folder.name.removeprefix("pod")] = f"{base}/{folder.name}"
        return found

    def memory_folder(self, path: str) -> Path:
        """Return where the memory of the cgroup at `path` is counted; it need not exist."""
        return (self._mount if self.unified else self._mount / "memory") / path.lstrip("/")

    def _hierarchies(self) -> list[Path]:
        """Return where all of them are mounted: a runtime makes cgroups in every one, and leaves the pods' to us."""
        if self.unified:
            return [self._mount]
        return [found for found in self._mount.iterdir() if found.is_dir()]

    def _folders(self, path: str) -> Iterable[Path]:
        relative = path.lstrip("/")
        if self.unified:
            return [self._mount / relative]
        return [self._mount / name / relative for name in _V1 if (self._mount / name).is_dir()]

    def _delegate(self, folder: Path) -> None:
        """Let the children of `folder` have limits, from the top down (version 2)."""
        if folder != self._mount:
            self._delegate(folder.parent)
            folder.mkdir(exist_ok=True)
        here = (folder / "cgroup.controllers").read_text().split()
        known = (folder / "cgroup.subtree_control").read_text().split()
        if wanted := [f"+{name}" for name in _V2 if name in here and name not in known]:
            (folder / "cgroup.subtree_control").write_text(" ".join(wanted))

    def _values(self, limits: ContainerLimits, pids: int) -> Mapping[str, str]:
        """Return file name -> content, of all controllers."""
        most_pids = str(pids) if pids else "max"
        if self.unified:
            quota = str(limits.cpu_quota) if limits.cpu_quota else "max"
            return {
                "cpu.weight": str(weight(limits.cpu_shares)),
                "cpu.max": f"{quota} {limits.cpu_period}",
                "memory.max": str(limits.memory_bytes) if limits.memory_bytes else "max",
                "pids.max": most_pids,
            }
        return {
            "cpu.shares": str(limits.cpu_shares),
            "cpu.cfs_period_us": str(limits.cpu_period),
            "cpu.cfs_quota_us": str(limits.cpu_quota or -1),
            "memory.limit_in_bytes": str(limits.memory_bytes or -1),
            "pids.max": most_pids,
        }

    def _weigh_classes(self, path: str) -> None:
        """Give the class of the pod at `path` its part of the processor: what its pods asked for, or next to nothing."""
        parent = path.rpartition("/")[0]
        level = parent.rpartition("/")[2]
        if level not in CLASSES:
            return
        name = "cpu.weight" if self.unified else "cpu.shares"
        folder = next(f for f in self._folders(parent) if (f / name).exists())
        total = class_weight(level, folder.glob(f"pod*/{name}"), unified=self.unified)
        (folder / name).write_text(str(total))


def class_weight(level: str, pods: Iterable[Path], *, unified: bool) -> int:
    """Return the weight (version 2) or the shares of a class: what its pods asked for, or next to nothing.

    Shapes:  level: one of CLASSES. pods: the files that hold the pods' own.
    """
    total = sum(map(_number, pods))
    if level == "besteffort":
        total = weight(MIN_SHARES) if unified else MIN_SHARES
    return min(max(total, 1), 10_000 if unified else MAX_SHARES)


def weight(shares: int) -> int:
    """Return the weight of version 2 (1 to 10,000) for the shares of version 1 (2 to 262,144)."""
    return 1 + (max(shares, MIN_SHARES) - MIN_SHARES) * 9_999 // 262_142


def container_settings(mount: Path = MOUNT) -> dict[str, str]:
    """Return what every container is given in version 2, as kubelet has it; nothing in version 1.

    The kernel then kills a container as a whole, not one process of it, and no container swaps.
    """
    if not (mount / "cgroup.controllers").exists():
        return {}
    settings = {"memory.oom.group": "1"}
    # The root has no such file, and with `swapaccount=0` nobody has.
    if any(mount.glob("*/memory.swap.max")):
        settings["memory.swap.max"] = "0"
    return settings


def huge_page_sizes(mount: Path = MOUNT, sizes: Path = HUGE_PAGES) -> tuple[str, ...]:
    """Return the machine's sizes of huge pages as the kernel writes them, if it can limit their use."""
    controllers = mount / "cgroup.controllers"
    limited = (mount / "hugetlb").is_dir() or (
        controllers.exists() and "hugetlb" in controllers.read_text().split()
    )
    if not limited or not sizes.is_dir():
        return ()
    names = (entry.name.removeprefix("hugepages-").removesuffix("kB") for entry in sizes.iterdir())
    return tuple(sorted(huge_page_name(f"{name}Ki") for name in names))


def _number(path: Path) -> int:
    """Return the number in `path`; 0 if it has just gone: pods come and go side by side."""
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return 0


def _remove(folder: Path) -> None:
    if not folder.is_dir():
        return
    for child in folder.iterdir():
        if child.is_dir():
            _remove(child)
    folder.rmdir()
