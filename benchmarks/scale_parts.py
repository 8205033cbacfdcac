"""The processes of the scale benchmark: certificates for all, a fleet of simulated nodes, a hub by itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from corekit.pki import Authority, KeyPair

HERE = Path(__file__).parent
TREE = HERE.parent
sys.path.insert(0, str(TREE))  # for tests.fakes: the proxy between the ends
FLEETS = 2
STOP_TIMEOUT_S = 10.0


class TimedOutError(Exception):
    """What was waited for did not happen; the message says what was last seen."""


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rss_bytes(pid: int) -> int:
    """Return the resident memory of one process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) << 10
    raise ProcessLookupError(pid)


class NodeCertificates:
    """One authority, cloudcore's certificate, and one for each node, in one folder."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder / "nodes"
        self.folder.mkdir(parents=True)
        self.authority = Authority(folder / "authority", "scale")
        (self.folder / "ca.crt").write_bytes(self.authority.pair.cert_file.read_bytes())
        self.issue("cloudcore", "cloudcore", hosts=("127.0.0.1",))
        for number in range(count):
            self.issue(f"edge-{number}", f"system:node:edge-{number}")

    def issue(self, stem: str, name: str, *groups: str, hosts: tuple[str, ...] = ()) -> KeyPair:
        """Return a new certificate with its key."""
        pair = KeyPair(self.folder / f"{stem}.crt", self.folder / f"{stem}.key")
        return self.authority.issue(pair, name, organizations=groups, hosts=hosts)


class Part:
    """A process of ours that prints JSON lines and takes commands."""

    def __init__(self, script: str, *arguments: object) -> None:
        self.last: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def command(self, line: str) -> None:
        """Tell it something."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait(self, good: Callable[[dict[str, Any]], bool], timeout_s: float) -> dict[str, Any]:
        """Return its first state that is good. Raises: TimedOutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self.last) and good(self.last), timeout_s):
                raise TimedOutError(f"after {timeout_s:.0f} s: {self.last}")
            return dict(self.last)

    def close(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self.command("stop")
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._changed:
                self.last = json.loads(line)
                self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Hub(Part):
    """cloudhub by itself."""

    def __init__(self, folder: Path, nodes: int, records: int) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        super().__init__("scale_hub.py", folder, self.address, nodes, records)
        self.wait(bool, 60.0)

    def cpu_share(self, during_s: float) -> float:
        """Return how much of a core it uses."""
        before = dict(self.last)
        time.sleep(during_s)
        after = dict(self.last)
        return float((after["cpu_s"] - before["cpu_s"]) / (after["at_s"] - before["at_s"]))


class Fleet:
    """Simulated nodes, shared out over processes."""

    def __init__(
        self, folder: Path, address: str, first: int, count: int, processes: int = 1
    ) -> None:
        self._count = count
        shares = [count // processes + (n < count % processes) for n in range(processes)]
        starts = [first + sum(shares[:n]) for n in range(processes)]
        self._parts = [
            Part("scale_fleet.py", folder, address, start, share)
            for start, share in zip(starts, shares, strict=True)
            if share
        ]
        self._shares = [share for share in shares if share]

    def command(self, line: str) -> None:
        """Tell all processes."""
        for part in self._parts:
            part.command(line)

    def wait_in_sync(
        self, timeout_s: float, *, after_s: float = 0.0, records: int | None = None
    ) -> float:
        """Return when (monotonic) the last node was in sync, seen after `after_s`. Raises: TimedOutError."""
        deadline_s = time.monotonic() + timeout_s
        ended_s = 0.0
        for part, share in zip(self._parts, self._shares, strict=True):
            wanted = None if records is None else records * share // self._count

            def good(
                state: dict[str, Any], share: int = share, wanted: int | None = wanted
            ) -> bool:
                full = wanted is None or state["records"] >= wanted
                return bool(state["at_s"] >= after_s and state["in_sync"] == share and full)

            state = part.wait(good, deadline_s - time.monotonic())
            ended_s = max(ended_s, state["at_s"])
        return ended_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for part in self._parts:
            part.close()


def environment() -> dict[str, str]:
    """Return what our processes run with."""
    return {**os.environ, "PYTHONPATH": str(TREE)}
