"""What the process runtime keeps on disk: a folder per sandbox and per container, each file written whole.

sandboxes/<id>/sandbox.json  how it was made      sandboxes/<id>/stopped  there once it is stopped
containers/<id>/container.json  how it was made   containers/<id>/started, exited  by the supervisor
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from edgecore.edged.runtime import PodIdentity

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """A sandbox as it was made. It does not survive the boot it was made in."""

    id: str
    pod: PodIdentity
    attempt: int
    created_s: float
    boot_id: str


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container as it was made.

    Shapes:  mounts: (host path, container path, read only). log_file: absolute.
    """

    id: str
    sandbox_id: str
    name: str
    attempt: int
    image: str
    created_s: float
    argv: Sequence[str]
    env: dict[str, str]
    working_dir: str
    mounts: Sequence[tuple[str, str, bool]]
    log_file: str
    user: int | None = None
    group: int | None = None
    groups: Sequence[int] = ()
    read_only: bool = False
    no_new_privileges: bool = False
    oom_score_adj: int = 0


class RuntimeFiles:
    """The folders below `root`. Every method blocks for a few small files at most."""

    def __init__(self, root: Path) -> None:
        self.sandboxes, self.containers = root / "sandboxes", root / "containers"
        self._records: dict[str, SandboxRecord | ContainerRecord] = {}

    def add_sandbox(self, record: SandboxRecord) -> None:
        """Store a new sandbox."""
        _write_whole(self.sandboxes / record.id / "sandbox.json", msgspec.json.encode(record))

    def add_container(self, record: ContainerRecord) -> None:
        """Store a new container."""
        _write_whole(self.containers / record.id / "container.json", msgspec.json.encode(record))

    def list_sandboxes(self) -> list[SandboxRecord]:
        """Return all sandboxes."""
        found = (
            self._read(folder / "sandbox.json", SandboxRecord) for folder in _in(self.sandboxes)
        )
        return [record for record in found if record is not None]

    def list_containers(self) -> list[ContainerRecord]:
        """Return all containers."""
        found = (self.container(folder.name) for folder in _in(self.containers))
        return [record for record in found if record is not None]

    def container(self, container_id: str) -> ContainerRecord | None:
        """Return one container, or None."""
        return self._read(self.containers / container_id / "container.json", ContainerRecord)

    def stopped(self, sandbox_id: str) -> bool:
        """Return whether the sandbox was stopped."""
        return (self.sandboxes / sandbox_id / "stopped").exists()

    def mark_stopped(self, sandbox_id: str) -> None:
        """Note that the sandbox was stopped, if it is there."""
        if (self.sandboxes / sandbox_id).is_dir():
            (self.sandboxes / sandbox_id / "stopped").touch()

    def facts(self, container_id: str, name: str) -> dict[str, str] | None:
        """Return what the supervisor wrote into `name` (started, exited), or None if it has not."""
        return read_facts(self.containers / container_id / name)

    def write_end(self, container_id: str, facts: dict[str, str]) -> None:
        """Write down an end that the supervisor did not see, unless it did after all."""
        path = self.containers / container_id / "exited"
        if path.parent.is_dir() and not path.exists():
            _write_whole(path, "".join(f"{k} {v}\n" for k, v in facts.items()).encode())

    def remove(self, folder: Path) -> None:
        """Remove a sandbox's or container's folder, its record first, so that a crash leaves no half of it."""
        for record in ("sandbox.json", "container.json"):
            (folder / record).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        self._records.pop(folder.name, None)

    def _read(self, path: Path, shape: type[T]) -> T | None:
        # Records never change, so each is read once; a poll must be cheap.
        known = self._records.get(path.parent.name)
        if known is not None:
            return known if isinstance(known, shape) else None
        try:
            record = msgspec.json.decode(path.read_bytes(), type=shape)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None  # being made or removed; or damaged, and then nobody can say what it was
        if isinstance(record, SandboxRecord | ContainerRecord):
            self._records[path.parent.name] = record
        return record


def read_facts(path: Path) -> dict[str, str] | None:
    """Return the `key value` lines of `path`, or None if it is not there."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return None
    pairs = (line.partition(" ") for line in text.splitlines())
    return {key: value for key, _, value in pairs}


def _in(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    part.replace(path)
