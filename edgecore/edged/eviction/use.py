"""A pod's record and its measured use, put together for the ranking; pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from edgecore.edged.admission.demands import Demands
from edgecore.edged.eviction.ranking import ContainerUse, PodUse, VolumeUse
from edgecore.edged.spec.podspec import Container, Pod, Volume
from edgecore.edged.spec.quantity import parse_quantity
from edgecore.edged.spec.resources import amount
from edgecore.edged.stats.samples import ContainerSample, PodSample, VolumeSample
from edgecore.edged.stats.summary import local_volumes

STORAGE = "ephemeral-storage"


def pod_use(pod: Pod, demands: Demands, sample: PodSample | None) -> PodUse:
    """Return what `pod` uses; nothing but its requests where nothing was measured."""
    if sample is None:
        return PodUse(demands)
    specs = {c.name: c for c in (*pod.spec.init_containers, *pod.spec.containers)}
    volumes = {v.name: v for v in pod.spec.volumes}
    local = {v.name for v in local_volumes(sample)}
    measured = [v for v in sample.volumes if v.kind == "empty-dir" or v.name in local]
    return PodUse(
        demands,
        containers=[_container(specs.get(c.name), c) for c in sample.containers],
        volumes=[_volume(volumes, v) for v in measured],
        layer_inodes=sum(c.rootfs.inodes_used for c in sample.containers if c.rootfs),
        local_inodes=sum(c.logs.inodes_used for c in sample.containers)
        + sum(v.fs.inodes_used for v in local_volumes(sample)),
        processes=sum(c.process_count for c in sample.containers),
        other=sample.other_files_bytes,
        storage_limit=sum(
            (amount(c, "limits", STORAGE) for c in pod.spec.containers), start=Decimal(0)
        ),
    )


def has_limits(pod: Pod) -> bool:
    """Return whether `pod` may hold only so much of the node's disk."""
    return any(amount(c, "limits", STORAGE) for c in pod.spec.containers) or any(
        v.empty_dir is not None and v.empty_dir.size_limit is not None for v in pod.spec.volumes
    )


def _container(spec: Container | None, sample: ContainerSample) -> ContainerUse:
    def asked(kind: str, resource: str) -> Decimal:
        return amount(spec, kind, resource) if spec is not None else Decimal(0)

    return ContainerUse(
        name=sample.name,
        memory=sample.memory.working_set_bytes,
        layer=sample.rootfs.used_bytes if sample.rootfs is not None else 0,
        logs=sample.logs.used_bytes,
        memory_request=asked("requests", "memory"),
        storage_request=asked("requests", STORAGE),
        storage_limit=asked("limits", STORAGE),
    )


def _volume(volumes: Mapping[str, Volume], sample: VolumeSample) -> VolumeUse:
    spec = volumes.get(sample.name)
    limit = spec.empty_dir.size_limit if spec is not None and spec.empty_dir is not None else None
    return VolumeUse(
        name=sample.name,
        used=sample.fs.used_bytes,
        limit=parse_quantity(limit) if limit is not None else Decimal(0),
        in_memory=sample.in_memory,
        limit_text="" if limit is None else str(limit),
    )
