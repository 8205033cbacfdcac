"""Which bind mounts a container gets of its pod's volumes; blocks where a subPath has to be held."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from edgecore.edged.containers.environment import expand, missing_names
from edgecore.edged.runtime import ContainerStartError, Mount
from edgecore.edged.spec.podspec import Container, VolumeMount
from edgecore.edged.volumes.errors import VolumeError
from edgecore.edged.volumes.podvolumes import Place, PodVolumes
from edgecore.edged.volumes.subpath import pin


def container_mounts(
    volumes: PodVolumes, container: Container, env: Mapping[str, str], *, can_recurse: bool = False
) -> list[Mount]:
    """Return the mounts of `container`, as its spec has them.

    Shapes:  can_recurse: the pod's runtime handler can mount recursively read-only.
    Raises:  ContainerStartError: CreateContainerConfigError with kubelet's message.
    """
    mounts = []
    for index, mount in enumerate(container.volume_mounts):
        place = volumes.place(mount.name)
        if place is None:
            raise _refused(
                f'cannot find volume "{mount.name}" to mount into container "{container.name}"'
            )
        recursive = _recursive_read_only(mount, can_recurse=can_recurse)
        source = place.path
        if sub_path := _sub_path(mount, env):
            where = volumes.folder / "volume-subpaths" / mount.name / container.name / str(index)
            source = _held(place, sub_path, where, mount, container)
        target = mount.mount_path
        mounts.append(
            Mount(
                str(source),
                target if target.startswith("/") else f"/{target}",
                mount.read_only or place.read_only,
                _propagation(mount, place, container),
                recursive,
                se_linux_relabel=place.own,
            )
        )
    return mounts


def _sub_path(mount: VolumeMount, env: Mapping[str, str]) -> str:
    path = mount.sub_path
    if mount.sub_path_expr:
        if missing := missing_names(mount.sub_path_expr, env):
            raise _refused(f'missing value for "{missing[0]}" required for expansion')
        path = expand(mount.sub_path_expr, env)
    if path.startswith("/"):
        raise _refused(f"error SubPath `{path}` must not be an absolute path")
    if ".." in PurePosixPath(path).parts:
        raise _refused(f"unable to provision SubPath `{path}`: must not contain '..'")
    return path


def _held(
    place: Place, sub_path: str, where: Path, mount: VolumeMount, container: Container
) -> Path:
    try:
        return pin(place.path, sub_path, where, create=place.writable)
    except (VolumeError, OSError) as exc:
        problem = exc.message if isinstance(exc, VolumeError) else exc.strerror
        raise _refused(
            f'failed to prepare subPath for volumeMount "{mount.name}" of container '
            f'"{container.name}": {problem}'
        ) from exc


def _propagation(mount: VolumeMount, place: Place, container: Container) -> str:
    wanted = mount.mount_propagation or "None"
    if wanted == "Bidirectional":
        if not container.security_context.privileged:
            raise _refused(
                f'volume "{mount.name}": Bidirectional mount propagation is available only to '
                "privileged containers"
            )
        if place.held or mount.sub_path or mount.sub_path_expr:
            raise _refused(
                f'volume "{mount.name}": Bidirectional mount propagation is not served for a subPath, '
                "nor where pods.allowed_host_paths restricts what pods may see"
            )
    return wanted


def _recursive_read_only(mount: VolumeMount, *, can_recurse: bool) -> bool:
    """Return whether what is mounted below `mount` is to be read-only too; IfPossible depends on the runtime."""
    wanted = mount.recursive_read_only or "Disabled"
    if wanted == "Disabled":
        return False
    what = f'volume "{mount.name}" requested recursive read-only mode, but it is not '
    if not mount.read_only:
        raise _refused(f"{what}read-only")
    if mount.mount_propagation not in ("", "None"):
        raise _refused(f'{what}compatible with propagation "{mount.mount_propagation}"')
    if wanted == "Enabled" and not can_recurse:
        raise _refused(f"{what}supported by the runtime")
    return can_recurse


def _refused(message: str) -> ContainerStartError:
    return ContainerStartError("CreateContainerConfigError", message)
