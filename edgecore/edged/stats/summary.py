"""A snapshot as the kubelet's Summary (stats v1alpha1); pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from corekit.timestamps import rfc3339
from edgecore.edged.stats.samples import (
    ContainerSample,
    CpuSample,
    FsSample,
    InterfaceSample,
    MemorySample,
    NodeSample,
    PodSample,
    Snapshot,
    SystemSample,
    VolumeSample,
)

Object = dict[str, Any]
# Volumes whose files lie on the node's own disk and count as the pod's ephemeral storage.
_LOCAL_KINDS = frozenset({"empty-dir", "configmap", "secret", "downward-api", "projected"})


def summary_of(snapshot: Snapshot) -> Object:
    """Return the Summary, ready for JSON."""
    node = snapshot.node
    stamp = rfc3339(node.time_s)
    pods = [_pod(pod, node, stamp) for pod in snapshot.pods]
    return {"node": _node(snapshot.node_name, node, snapshot.pods, stamp), "pods": pods}


def ephemeral_bytes(pod: PodSample) -> int:
    """Return what the pod takes of the node's disk: writable layers, logs, volumes, the agent's files for it."""
    layers = sum(c.rootfs.used_bytes for c in pod.containers if c.rootfs is not None)
    logs = sum(c.logs.used_bytes for c in pod.containers)
    volumes = sum(v.fs.used_bytes for v in local_volumes(pod))
    return layers + logs + volumes + pod.other_files_bytes


def ephemeral_inodes(pod: PodSample) -> int:
    """Return how many inodes of the node's disk the pod takes."""
    layers = sum(c.rootfs.inodes_used for c in pod.containers if c.rootfs is not None)
    logs = sum(c.logs.inodes_used for c in pod.containers)
    return layers + logs + sum(v.fs.inodes_used for v in local_volumes(pod))


def local_volumes(pod: PodSample) -> list[VolumeSample]:
    """Return the pod's volumes on the node's own disk."""
    return [v for v in pod.volumes if v.kind in _LOCAL_KINDS and not v.in_memory]


def total_memory(containers: Sequence[ContainerSample]) -> MemorySample:
    """Return the memory of all `containers`; a limit only if each of them has one."""
    sums = {
        field.name: sum(getattr(c.memory, field.name) for c in containers)
        for field in fields(MemorySample)
        if field.name not in ("limit_bytes", "available_bytes")
    }
    limits = [c.memory.limit_bytes for c in containers if c.memory.limit_bytes is not None]
    if not containers or len(limits) < len(containers):
        return MemorySample(**sums)
    available = max(sum(limits) - sums["working_set_bytes"], 0)
    return MemorySample(**sums, limit_bytes=sum(limits), available_bytes=available)


def total_cpu(containers: Sequence[ContainerSample]) -> CpuSample:
    """Return the CPU of all `containers`."""
    return CpuSample(
        usage_ns=sum(c.cpu.usage_ns for c in containers),
        nano_cores=sum(c.cpu.nano_cores for c in containers),
    )


def _node(name: str, node: NodeSample, pods: Sequence[PodSample], stamp: str) -> Object:
    everything = [c for pod in pods for c in pod.containers]
    image_fs = _fs(node.image_fs, stamp) if node.image_fs is not None else None
    return {
        "nodeName": name,
        "systemContainers": [
            _system(sample, stamp)
            for sample in (
                *node.system,
                SystemSample(
                    "pods", node.started_s, total_cpu(everything), total_memory(everything)
                ),
            )
        ],
        "startTime": rfc3339(node.started_s),
        "cpu": _cpu(node.cpu, stamp),
        "memory": _memory(node.memory, stamp),
        "network": _network(node.interfaces, node.default_interface, stamp),
        "fs": _fs(node.fs, stamp),
        "runtime": {"imageFs": image_fs, "containerFs": image_fs} if image_fs else {},
        "rlimit": {"time": stamp, "maxpid": node.max_pid, "curproc": node.process_count},
        "swap": {
            "time": stamp,
            "swapAvailableBytes": max(node.swap_total_bytes - node.memory.swap_bytes, 0),
            "swapUsageBytes": node.memory.swap_bytes,
        },
    }


def _system(sample: SystemSample, stamp: str) -> Object:
    return {
        "name": sample.name,
        "startTime": rfc3339(sample.started_s),
        "cpu": _cpu(sample.cpu, stamp),
        "memory": _memory(sample.memory, stamp),
        "swap": {"time": stamp, "swapUsageBytes": sample.memory.swap_bytes},
    }


def _pod(pod: PodSample, node: NodeSample, stamp: str) -> Object:
    storage = FsSample(
        capacity_bytes=node.fs.capacity_bytes,
        available_bytes=node.fs.available_bytes,
        used_bytes=ephemeral_bytes(pod),
        inodes=node.fs.inodes,
        inodes_free=node.fs.inodes_free,
        inodes_used=ephemeral_inodes(pod),
    )
    identity = pod.pod
    written: Object = {
        "podRef": {"name": identity.name, "namespace": identity.namespace, "uid": identity.uid},
        "startTime": rfc3339(pod.started_s),
        "containers": [_container(container) for container in pod.containers],
        "cpu": _cpu(total_cpu(pod.containers), stamp),
        "memory": _memory(total_memory(pod.containers), stamp),
        "ephemeral-storage": _fs(storage, stamp),
        "process_stats": {"process_count": sum(c.process_count for c in pod.containers)},
        "swap": {
            "time": stamp,
            "swapUsageBytes": sum(c.memory.swap_bytes for c in pod.containers),
        },
    }
    if pod.volumes:
        written["volume"] = [_volume(v, identity.namespace, stamp) for v in pod.volumes]
    if pod.interfaces:
        written["network"] = _network(pod.interfaces, "eth0", stamp)
    return written


def _container(container: ContainerSample) -> Object:
    stamp = rfc3339(container.time_s)
    written: Object = {
        "name": container.name,
        "startTime": rfc3339(container.started_s),
        "cpu": _cpu(container.cpu, stamp),
        "memory": _memory(container.memory, stamp),
        "logs": _fs(container.logs, stamp),
        "swap": {"time": stamp, "swapUsageBytes": container.memory.swap_bytes},
    }
    if container.rootfs is not None:
        written["rootfs"] = _fs(container.rootfs, stamp)
    return written


def _volume(volume: VolumeSample, namespace: str, stamp: str) -> Object:
    written = {**_fs(volume.fs, stamp), "name": volume.name}
    if volume.claim:
        written["pvcRef"] = {"name": volume.claim, "namespace": namespace}
    return written


def _cpu(cpu: CpuSample, stamp: str) -> Object:
    return {"time": stamp, "usageNanoCores": cpu.nano_cores, "usageCoreNanoSeconds": cpu.usage_ns}


def _memory(memory: MemorySample, stamp: str) -> Object:
    written: Object = {
        "time": stamp,
        "usageBytes": memory.usage_bytes,
        "workingSetBytes": memory.working_set_bytes,
        "rssBytes": memory.rss_bytes,
        "pageFaults": memory.page_faults,
        "majorPageFaults": memory.major_page_faults,
    }
    if memory.available_bytes is not None:
        written["availableBytes"] = memory.available_bytes
    return written


def _fs(fs: FsSample, stamp: str) -> Object:
    return {
        "time": stamp,
        "availableBytes": fs.available_bytes,
        "capacityBytes": fs.capacity_bytes,
        "usedBytes": fs.used_bytes,
        "inodesFree": fs.inodes_free,
        "inodes": fs.inodes,
        "inodesUsed": fs.inodes_used,
    }


def _network(interfaces: Sequence[InterfaceSample], default: str, stamp: str) -> Object:
    written: Object = {"time": stamp}
    main = next((i for i in interfaces if i.name == default), None)
    if main is not None:
        written |= _interface(main)
    return written | {"interfaces": [_interface(i) for i in interfaces]}


def _interface(interface: InterfaceSample) -> Object:
    return {
        "name": interface.name,
        "rxBytes": interface.rx_bytes,
        "rxErrors": interface.rx_errors,
        "txBytes": interface.tx_bytes,
        "txErrors": interface.tx_errors,
    }
