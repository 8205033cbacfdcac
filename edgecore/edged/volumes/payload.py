"""Which files ConfigMap, Secret, downwardAPI and projected volumes show; pure: the caller brings the objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from edgecore.edged.containers.environment import Lookup, PodFacts, pod_field, resource_field
from edgecore.edged.runtime import ContainerStartError
from edgecore.edged.spec.podspec import (
    DownwardFile,
    KeyToPath,
    Pod,
    ProjectedSource,
    ProjectedToken,
    Volume,
)
from edgecore.edged.volumes.atomicwriter import File
from edgecore.edged.volumes.errors import VolumeError
from edgecore.edged.volumes.inputs import VolumeInputs
from edgecore.edged.volumes.ownership import file_mode, file_user, fs_group


def volume_payload(pod: Pod, volume: Volume, inputs: VolumeInputs) -> dict[str, File] | None:
    """Return the files of `volume`, or None if it is not made of files that edged writes.

    Raises:  VolumeError: an object or key is missing.
    """
    try:
        files = _files(pod, volume, inputs)
    except VolumeError:
        raise
    except ContainerStartError as exc:  # of the downward API
        raise VolumeError(exc.message) from exc
    group = fs_group(pod)
    if files is None or group is None:
        return files
    return {path: file._replace(mode=file_mode(file.mode, group)) for path, file in files.items()}


def is_in_memory(volume: Volume) -> bool:
    """Return whether `volume` must never touch a disk; as kubelet has it, all but ConfigMaps."""
    return volume.config_map is None


def _files(pod: Pod, volume: Volume, inputs: VolumeInputs) -> dict[str, File] | None:
    lookup = inputs.lookup
    if (config := volume.config_map) is not None:
        return _keys(
            "ConfigMap", config.name, config.items, config.default_mode, lookup,
            optional=config.optional,
        )  # fmt: skip
    if (secret := volume.secret) is not None:
        return _keys(
            "Secret", secret.secret_name, secret.items, secret.default_mode, lookup,
            optional=secret.optional,
        )  # fmt: skip
    if (fields := volume.downward_api) is not None:
        return dict(_fields(pod, fields.items, fields.default_mode, inputs.facts))
    if (projected := volume.projected) is None:
        return None
    files: dict[str, File] = {}
    for source in projected.sources:
        files.update(_projected(pod, source, projected.default_mode, inputs))
    return files


def _projected(
    pod: Pod, source: ProjectedSource, mode: int, inputs: VolumeInputs
) -> Mapping[str, File]:
    lookup = inputs.lookup
    if (part := source.config_map) is not None:
        return _keys("ConfigMap", part.name, part.items, mode, lookup, optional=part.optional)
    if (part := source.secret) is not None:
        return _keys("Secret", part.name, part.items, mode, lookup, optional=part.optional)
    if source.downward_api is not None:
        return dict(_fields(pod, source.downward_api.items, mode, inputs.facts))
    if (token := source.service_account_token) is not None:
        user = file_user(pod)
        # Nobody else's where the pod says who reads it.
        closed = user is not None or fs_group(pod) is not None
        return {token.path: File(_token(token, inputs), 0o600 if closed else mode, user)}
    return {}


def _token(source: ProjectedToken, inputs: VolumeInputs) -> bytes:
    content = inputs.tokens.contents.get(source)
    if content is None:
        raise VolumeError(inputs.tokens.problems.get(source, "failed to fetch token"))
    return content


def _keys(
    kind: str,
    name: str,
    items: Iterable[KeyToPath],
    mode: int,
    lookup: Lookup,
    *,
    optional: bool,
) -> dict[str, File]:
    content = lookup(kind, name)
    if content is None:
        if optional:
            return {}
        raise VolumeError(f'{kind.lower()} "{name}" not found')
    chosen = tuple(items)
    if not chosen:
        return {key: File(value, mode) for key, value in content.items()}
    files: dict[str, File] = {}
    for item in chosen:
        if item.key in content:
            files[item.path] = File(content[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            # kubelet's words, which differ for the two
            what = "configmap references" if kind == "ConfigMap" else "references"
            word = "config" if kind == "ConfigMap" else "secret"
            raise VolumeError(f"{what} non-existent {word} key: {item.key}")
    return files


def _fields(
    pod: Pod, items: Iterable[DownwardFile], mode: int, facts: PodFacts
) -> Iterator[tuple[str, File]]:
    for item in items:
        if item.field_ref is not None:
            text = pod_field(pod, item.field_ref.field_path, facts)
        elif item.resource_field_ref is not None:
            text = resource_field(pod, "", item.resource_field_ref, facts)
        else:
            raise VolumeError(f"downwardAPI item {item.path} names no field")
        yield item.path, File(text.encode(), mode if item.mode is None else item.mode)
