"""The links of `/var/log/containers`, which log shippers read: one per container, into its pod's folder; blocks."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from edgecore.edged.runtime import PodIdentity

DEFAULT_LOG_DIR, DEFAULT_LINK_DIR = "/var/log/pods", "/var/log/containers"
MAX_NAME = 251  # kubelet's, so that ".log" still fits a file's name


def link_folder(setting: str, log_dir: str) -> Path | None:
    """Return where links go, None for nowhere.

    Shapes:  setting: a folder, "" for none, or auto: kubelet's folder if the logs are in kubelet's as well.
    """
    if setting != "auto":
        return Path(setting) if setting else None
    return Path(DEFAULT_LINK_DIR) if log_dir.rstrip("/") == DEFAULT_LOG_DIR else None


def make_link(folder: Path, pod: PodIdentity, container: str, container_id: str, log: Path) -> None:
    """Link to `log` under the name that kubelet gives it."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{pod.name}_{pod.namespace}_{container}-{container_id}"[:MAX_NAME]
    link = folder / f"{name}.log"
    with suppress(FileExistsError):
        link.symlink_to(log)


def remove_dead_links(folder: Path, log_dir: Path, containers: Collection[str]) -> int:
    """Remove the links into `log_dir` whose logs are gone; return how many. Others' links stay.

    Shapes:  containers: ids of all that are there: the log of one of them may just be put aside.
    """
    removed = 0
    with suppress(FileNotFoundError):
        for link in folder.iterdir():
            container_id = link.name.removesuffix(".log").rpartition("-")[2]
            ours = link.is_symlink() and log_dir in link.readlink().parents
            if ours and container_id not in containers and not link.exists():
                link.unlink(missing_ok=True)
                removed += 1
    return removed
