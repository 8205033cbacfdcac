"""Volumes of a pod on disk, below `<root>/<uid>/`; everything here blocks and is called in threads.

volumes/kubernetes.io~<type>/<name>    as kubelet lays them out
plugins/kubernetes.io~empty-dir/<name>/ready    says that an emptyDir was made; what is in it is the containers'
volume-subpaths/<volume>/<container>/<index>    binds of single entries, pinned against later renames
claims/<name>                          what a claim was bound to when the pod got it
containers/<name>/<attempt>            termination messages;   etc-hosts   the pod's /etc/hosts
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgecore.edged.spec.podspec import HostPath, Pod, Volume
from edgecore.edged.volumes import mounts
from edgecore.edged.volumes.atomicwriter import DATA, File, write_payload
from edgecore.edged.volumes.claims import ClaimedVolume
from edgecore.edged.volumes.emptydirs import prepare_empty_dir
from edgecore.edged.volumes.errors import UnmountedError, VolumeError
from edgecore.edged.volumes.hostpaths import EVERYTHING, check_host_path, restricted
from edgecore.edged.volumes.inputs import VolumeInputs
from edgecore.edged.volumes.ownership import fs_group, own_tree
from edgecore.edged.volumes.payload import is_in_memory, volume_payload
from edgecore.edged.volumes.subpath import hold
from edgecore.edged.volumes.tree import remove_tree

logger = logging.getLogger(__name__)

MESSAGES = "containers"  # the folder of termination messages
_TYPE_FOLDERS = (
    ("empty_dir", "empty-dir"),
    ("config_map", "configmap"),
    ("secret", "secret"),
    ("downward_api", "downward-api"),
    ("projected", "projected"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a volume lies on the node.

    Shapes:  read_only: whatever a mount asks for. writable: missing folders of a subPath may be made in it.
             held: a bind of ours stands for the path: what is mounted in a container cannot reach the node.
             own: the pod's own files, which nobody else reads: they may be given the pod's SELinux label.
    """

    path: Path
    read_only: bool = False
    writable: bool = False
    held: bool = False
    own: bool = False


class PodVolumes:
    """The files of one pod.

    Shapes:  root: folder of all pods' files. allowed_host_paths: of the node, that pods may see.
    """

    def __init__(
        self, root: Path, uid: str, allowed_host_paths: Sequence[str] = (EVERYTHING,)
    ) -> None:
        self.folder = root / uid
        self._allowed = allowed_host_paths
        self._places: dict[str, Place] = {}

    def place(self, name: str) -> Place | None:
        """Return where the volume `name` lies, as the last `prepare` made it."""
        return self._places.get(name)

    def path(self, volume: Volume) -> Path:
        """Return where a volume of the pod's own lies."""
        kind = next(f for member, f in _TYPE_FOLDERS if getattr(volume, member) is not None)
        return self.folder / "volumes" / f"kubernetes.io~{kind}" / volume.name

    def prepare(self, pod: Pod, inputs: VolumeInputs) -> None:
        """Make or refresh all volumes of `pod`. Raises: VolumeError: naming the volume."""
        for volume in pod.spec.volumes:
            try:
                self._places[volume.name] = self._prepare_one(pod, volume, inputs)
            except (VolumeError, OSError, ValueError) as exc:
                if self._goes_on(volume):
                    continue  # its object has vanished since: a restart goes on with what is there
                if isinstance(exc, UnmountedError):
                    raise
                problem = exc.message if isinstance(exc, VolumeError) else str(exc)
                raise VolumeError(
                    f'MountVolume.SetUp failed for volume "{volume.name}" : {problem}'
                ) from exc

    def refresh(self, pod: Pod, inputs: VolumeInputs) -> bool:
        """Bring changed objects, labels and tokens into the files of a running pod; return whether any changed.

        What has vanished since the pod started stays as it was, as kubelet leaves it, unless it was optional.
        """
        changed = False
        for volume in pod.spec.volumes:
            try:
                payload = volume_payload(pod, volume, inputs)
                if payload is not None and self.path(volume).is_dir():
                    written = write_payload(self.path(volume), payload, _gid(pod))
                    changed = written or changed
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

    def release(self) -> None:
        """Unmount and delete the volumes of a pod that has ended; what its containers left to say stays.

        Raises:  OSError: something is still mounted, nothing was deleted.
        """
        self._places.clear()
        if not self.folder.exists():
            return
        self._unmount()
        for entry in self.folder.iterdir():
            if entry.name == MESSAGES:
                continue
            if entry.is_dir():
                remove_tree(entry)
            else:
                entry.unlink()

    def remove(self) -> None:
        """Unmount and delete everything. Raises: OSError: something is still mounted, nothing was deleted."""
        if not self.folder.exists():
            return
        self._unmount()
        remove_tree(self.folder)

    def _unmount(self) -> None:
        # Deleting below a bind mount would delete the node's own files.
        mounts.unmount_below(self.folder)
        if left := mounts.mounts_below(self.folder):
            raise OSError(f"still mounted: {left[0]}")

    def _goes_on(self, volume: Volume) -> bool:
        if volume.name in self._places:
            return volume.host_path is None
        return any(getattr(volume, member) is not None for member, _ in _TYPE_FOLDERS) and (
            (self.path(volume) / DATA).exists() and self._remember(volume)
        )

    def _remember(self, volume: Volume) -> bool:
        self._places[volume.name] = Place(self.path(volume), read_only=True, own=True)
        return True

    def _prepare_one(self, pod: Pod, volume: Volume, inputs: VolumeInputs) -> Place:
        if volume.host_path is not None:
            return self._prepare_host_path(volume.name, volume.host_path)
        if volume.persistent_volume_claim is not None or volume.ephemeral is not None:
            return self._prepare_claim(pod, volume.name, inputs)
        path = self.path(volume)
        if volume.empty_dir is not None:
            ready = self.folder / "plugins/kubernetes.io~empty-dir" / volume.name / "ready"
            prepare_empty_dir(path, ready, volume.empty_dir, pod, inputs.facts.allocatable)
            return Place(path, writable=True, own=True)
        payload = volume_payload(pod, volume, inputs)
        if payload is None:
            raise VolumeError("no volume plugin matched")
        path.mkdir(parents=True, exist_ok=True)
        self._prepare_files(path, payload, _gid(pod), in_memory=is_in_memory(volume))
        return Place(path, read_only=True, own=True)

    def _prepare_host_path(self, name: str, host_path: HostPath) -> Place:
        check_host_path(host_path, self._allowed)
        path = Path(host_path.path)
        if not restricted(self._allowed) or not mounts.can_mount():
            return Place(path, writable=True)
        if not path.exists():  # the runtime would make it, wherever the path leads by then
            path.mkdir(parents=True)
        # Held by descriptor: a link that a container plants after the check changes nothing.
        place = self.folder / "volumes/kubernetes.io~host-path" / name
        hold(path, place, self._allowed)
        return Place(place, writable=True, held=True)

    def _prepare_claim(self, pod: Pod, name: str, inputs: VolumeInputs) -> Place:
        claimed = self._claimed(name, inputs)
        path = Path(claimed.host_path.path)
        if claimed.managed and not path.exists():
            raise VolumeError(f'path "{path}" does not exist')
        if claimed.managed and not path.is_dir():
            raise VolumeError(f'path "{path}" is no folder; block devices are not served')
        place = self._prepare_host_path(name, claimed.host_path)
        if claimed.managed and (group := fs_group(pod)) is not None:
            own_tree(place.path, group)
        note = msgspec.json.encode(claimed)
        self.write_file(f"claims/{name}", note, 0o600)
        return Place(place.path, claimed.read_only, writable=True, held=place.held)

    def _claimed(self, name: str, inputs: VolumeInputs) -> ClaimedVolume:
        """Return what the claim is bound to; what it was bound to when the pod got it if it is gone since."""
        try:
            claimed = inputs.claimed(name)
        except VolumeError:
            note = self.folder / "claims" / name
            if not note.is_file():
                raise
            return msgspec.json.decode(note.read_bytes(), type=ClaimedVolume)
        if claimed is None:
            raise VolumeError("no volume plugin matched")
        return claimed

    def _prepare_files(
        self, path: Path, payload: dict[str, File], gid: int | None, *, in_memory: bool
    ) -> None:
        if in_memory and mounts.can_mount() and not path.is_mount():
            mounts.mount_tmpfs(path)
        elif in_memory and not mounts.can_mount():
            self.folder.chmod(0o700)  # no tmpfs without root: at least nobody else reads it
        write_payload(path, payload, gid)


def _gid(pod: Pod) -> int | None:
    group = fs_group(pod)
    return group.gid if group is not None else None
