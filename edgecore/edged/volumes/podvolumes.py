"""Volumes of a pod on disk, below `<root>/<uid>/`; everything here blocks and is called in threads.

volumes/kubernetes.io~<type>/<name>    as kubelet lays them out
volume-subpaths/<volume>/<container>/<index>    binds of single entries, pinned against later renames
containers/<name>/<attempt>            termination messages;   etc-hosts   the pod's /etc/hosts
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from edgecore.edged.containers.environment import Lookup, PodFacts
from edgecore.edged.spec.podspec import EmptyDir, HostPath, Pod, Volume
from edgecore.edged.spec.quantity import ceil_of, parse_quantity
from edgecore.edged.volumes import mounts
from edgecore.edged.volumes.atomicwriter import DATA, File, write_payload
from edgecore.edged.volumes.payload import VolumeError, volume_payload

logger = logging.getLogger(__name__)

_TYPE_FOLDERS = (
    ("empty_dir", "empty-dir"),
    ("config_map", "configmap"),
    ("secret", "secret"),
    ("downward_api", "downward-api"),
    ("projected", "projected"),
)
_HOST_PATH_TYPES: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "FileOrCreate": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


class PodVolumes:
    """The files of one pod.

    Shapes:  root: folder of all pods' files.
    """

    def __init__(self, root: Path, uid: str) -> None:
        self.folder = root / uid
        self._in_memory = mounts.can_mount()

    def path(self, volume: Volume) -> Path:
        """Return where `volume` lies on the node."""
        if volume.host_path is not None:
            return Path(volume.host_path.path)
        kind = next(f for member, f in _TYPE_FOLDERS if getattr(volume, member) is not None)
        return self.folder / "volumes" / f"kubernetes.io~{kind}" / volume.name

    def prepare(self, pod: Pod, lookup: Lookup, facts: PodFacts) -> None:
        """Make or refresh all volumes of `pod`. Raises: VolumeError: naming the volume."""
        for volume in pod.spec.volumes:
            try:
                self._prepare_one(pod, volume, lookup, facts)
            except (VolumeError, OSError, ValueError) as exc:
                if volume.host_path is None and (self.path(volume) / DATA).exists():
                    continue  # its object has vanished since: a restart goes on with what is there
                problem = exc.message if isinstance(exc, VolumeError) else str(exc)
                raise VolumeError(
                    f'MountVolume.SetUp failed for volume "{volume.name}" : {problem}'
                ) from exc

    def refresh(self, pod: Pod, lookup: Lookup, facts: PodFacts) -> bool:
        """Bring changed ConfigMaps and Secrets into the files of a running pod; return whether any changed.

        What has vanished since the pod started stays as it was, as kubelet leaves it.
        """
        changed = False
        for volume in pod.spec.volumes:
            try:
                payload = volume_payload(pod, volume, lookup, facts)
                if payload is not None and self.path(volume).is_dir():
                    changed = write_payload(self.path(volume), payload) or changed
            except (VolumeError, OSError, ValueError) as exc:
                extra = {"pod": f"{pod.metadata.namespace}/{pod.metadata.name}"}
                logger.debug("volume %s not refreshed: %s", volume.name, exc, extra=extra)
        return changed

    def write_file(self, relative: str, content: bytes, mode: int) -> Path:
        """Write one of the agent's own files for the pod, in place: it may be mounted already."""
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def remove(self) -> None:
        """Unmount and delete everything. Raises: OSError: something is still mounted, nothing was deleted."""
        if not self.folder.exists():
            return
        # Deleting below a bind mount would delete the node's own files.
        mounts.unmount_below(self.folder)
        if left := mounts.mounts_below(self.folder):
            raise OSError(f"still mounted: {left[0]}")
        shutil.rmtree(self.folder)

    def _prepare_one(self, pod: Pod, volume: Volume, lookup: Lookup, facts: PodFacts) -> None:
        if volume.host_path is not None:
            _check_host_path(volume.host_path)
            return
        payload = volume_payload(pod, volume, lookup, facts)
        path = self.path(volume)
        path.mkdir(parents=True, exist_ok=True)
        if volume.empty_dir is not None:
            self._prepare_empty_dir(path, volume.empty_dir)
        elif payload is not None:
            self._prepare_files(path, payload, secret=_holds_secret(volume))

    def _prepare_empty_dir(self, path: Path, empty_dir: EmptyDir) -> None:
        if empty_dir.medium == "Memory" and self._in_memory and not path.is_mount():
            limit = empty_dir.size_limit
            mounts.mount_tmpfs(path, ceil_of(parse_quantity(limit)) if limit is not None else 0)
        path.chmod(0o777)  # any user of any container may write, as kubelet has it

    def _prepare_files(self, path: Path, payload: dict[str, File], *, secret: bool) -> None:
        if secret and self._in_memory and not path.is_mount():
            mounts.mount_tmpfs(path)
        elif secret and not self._in_memory:
            self.folder.chmod(0o700)  # no tmpfs without root: at least nobody else reads it
        write_payload(path, payload)


def _holds_secret(volume: Volume) -> bool:
    sources = volume.projected.sources if volume.projected else ()
    return volume.secret is not None or any(s.secret is not None for s in sources)


def _check_host_path(host_path: HostPath) -> None:
    """Make what `type` says may be made, and refuse what is of another type."""
    path = Path(host_path.path)
    if not path.is_absolute() or ".." in path.parts:
        raise VolumeError(f"hostPath {host_path.path!r} must be absolute and without '..'")
    if host_path.type == "DirectoryOrCreate" and not path.exists():
        path.mkdir(parents=True, mode=0o755)
    if host_path.type == "FileOrCreate" and not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    if host_path.type:
        fits, word = _HOST_PATH_TYPES[host_path.type]
        if not path.exists() or not fits(path.stat().st_mode):
            raise VolumeError(f"hostPath type check failed: {path} is not a {word}")
