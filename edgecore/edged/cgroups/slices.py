"""Slices of pods, made and limited by systemd itself; blocks, for use in threads.

A host's systemd is the one writer of its cgroups: what is written past it is undone by its next reload.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgecore.edged.cgroups.names import CLASSES, slice_of_all
from edgecore.edged.cgroups.tree import MOUNT, class_weight, weight
from edgecore.edged.runtime import ContainerLimits

logger = logging.getLogger(__name__)

CALL_TIMEOUT_S = 10.0  # systemd answers in milliseconds; a machine that starts is slow
REALIZE_TIMEOUT_S = 5.0  # from the answer, which only says "queued", to the cgroup
NO_LIMIT = (1 << 64) - 1  # systemd's "infinity"
PERCENT_US = 10_000  # systemd keeps quotas in whole percent of a second, and rounds down
# Name, D-Bus type and value of a unit's property.
Property = tuple[str, str, str]
# Calls a method of systemd's manager: name, signature, arguments. Raises: OSError.
Call = Callable[[str, str, Sequence[str]], None]


def busctl(method: str, signature: str, arguments: Sequence[str]) -> None:
    """Call `method` of systemd's manager by its own bus client: nothing stays in memory. Raises: OSError."""
    target = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
    manager = "org.freedesktop.systemd1.Manager"
    command = ["busctl", "--system", "call", *target, manager, method, signature, *arguments]
    try:
        done = subprocess.run(  # noqa: S603  its words are ours
            command, capture_output=True, timeout=CALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise TimeoutError(f"systemd did not answer {method} in {CALL_TIMEOUT_S:.0f} s") from exc
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise OSError(f"systemd: {method}: {said.removeprefix('Call failed: ')}")


class SliceTree:
    """Makes, limits and removes the slices of pods.

    Shapes:  name (of every method): as `names.pod_slice` returns it.
    """

    def __init__(self, mount: Path = MOUNT, call: Call = busctl) -> None:
        self._unified = (mount / "cgroup.controllers").exists()
        self._mount = mount if self._unified else mount / "systemd"
        self._call = call

    def ensure(self, name: str, limits: ContainerLimits, pids: int) -> None:
        """Have the slice `name` with its limits. Raises: OSError.

        Shapes:  pids: 0 for no limit.
        """
        wanted = self._limits(limits, pids)
        if self._folder(name).exists():
            self._set(name, wanted)
        else:
            self._start(name, wanted)
        self._weigh_class(name)

    def remove(self, name: str) -> None:
        """Stop the slice `name`: it goes, with what a runtime left in it; what is in use stays."""
        folder = self._folder(name)
        if not folder.exists() or _has_processes(folder):  # systemd would end them
            return
        try:
            self._call("StopUnit", "ss", (name, "replace"))
        except OSError as exc:
            logger.debug("slice %s stays: %s", name, exc)

    def pods(self, root: str) -> dict[str, str]:
        """Return pod uid -> slice of every pod below `root`."""
        prefix = slice_of_all(root).removesuffix(".slice")
        found: dict[str, str] = {}
        for level in ("", *CLASSES):
            base = f"{prefix}-{level}" if level else prefix
            for folder in self._folder(f"{base}.slice").glob(f"{base}-pod*.slice"):
                uid = folder.name.removeprefix(f"{base}-pod").removesuffix(".slice")
                found[uid.replace("_", "-")] = folder.name
        return found

    def memory_folder(self, name: str) -> Path:
        """Return where the memory of the slice `name` is counted; it need not exist."""
        relative = self._folder(name).relative_to(self._mount)
        return (self._mount if self._unified else self._mount.parent / "memory") / relative

    def _start(self, name: str, wanted: Sequence[Property]) -> None:
        about: list[Property] = [
            ("Description", "s", f"pods: {name}"),
            ("DefaultDependencies", "b", "false"),  # pods outlive the agent, not the machine
            ("MemoryAccounting", "b", "true"),
            ("CPUAccounting", "b", "true"),
            ("IOAccounting", "b", "true"),
            ("TasksAccounting", "b", "true"),
        ]
        properties = _flat((*about, *wanted))
        self._call("StartTransientUnit", "ssa(sv)a(sa(sv))", (name, "replace", *properties, "0"))
        self._await(name)

    def _await(self, name: str) -> None:
        """Wait until systemd has made the cgroup: its answer only says that it will."""
        deadline = time.monotonic() + REALIZE_TIMEOUT_S
        while not self._folder(name).exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"systemd made no cgroup of {name} in {REALIZE_TIMEOUT_S:.0f} s")
            time.sleep(0.02)

    def _set(self, name: str, wanted: Sequence[Property]) -> None:
        """Set properties until the next boot."""
        self._call("SetUnitProperties", "sba(sv)", (name, "true", *_flat(wanted)))

    def _limits(self, limits: ContainerLimits, pids: int) -> list[Property]:
        quota_us = NO_LIMIT
        if limits.cpu_quota:
            # Rounded up, or a container with the whole quota would not fit in. The period stays systemd's, which is
            # the kernel's and ours too: versions before 242 know no property for it.
            percent = -(-limits.cpu_quota * 1_000_000 // limits.cpu_period // PERCENT_US)
            quota_us = percent * PERCENT_US
        memory = str(limits.memory_bytes or NO_LIMIT)
        return [
            self._share(limits.cpu_shares),
            ("CPUQuotaPerSecUSec", "t", str(quota_us)),
            ("MemoryMax" if self._unified else "MemoryLimit", "t", memory),
            ("TasksMax", "t", str(pids or NO_LIMIT)),
        ]

    def _share(self, shares: int) -> Property:
        if self._unified:
            return ("CPUWeight", "t", str(weight(shares)))
        return ("CPUShares", "t", str(shares))

    def _weigh_class(self, name: str) -> None:
        """Give the class of the pod its part of the processor: what its pods asked for, or next to nothing."""
        folder = self._folder(name).parent
        level = folder.name.removesuffix(".slice").rpartition("-")[2]
        if level in CLASSES and self._unified:
            total = class_weight(level, folder.glob("*-pod*.slice/cpu.weight"), unified=True)
            self._set(folder.name, [("CPUWeight", "t", str(total))])

    def _folder(self, name: str) -> Path:
        """Return the cgroup of a slice: `a-b.slice` lies in `a.slice`."""
        parts = name.removesuffix(".slice").split("-")
        return self._mount.joinpath(
            *("-".join(parts[: i + 1]) + ".slice" for i in range(len(parts)))
        )


def _has_processes(folder: Path) -> bool:
    """Return whether anything runs in a cgroup or below it; what goes meanwhile does not."""
    try:
        return any(listed.read_text() for listed in folder.rglob("cgroup.procs"))
    except OSError:
        return False


def _flat(properties: Sequence[Property]) -> list[str]:
    """Return properties as the array that busctl reads: how many, then name, type and value of each."""
    return [str(len(properties)), *(word for p in properties for word in p)]
