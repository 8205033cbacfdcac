"""Pods, as cloudcore sends them."""

from __future__ import annotations

import base64
import itertools
import json

from edgecore.edged.containers.environment import PodFacts
from edgecore.edged.spec.podspec import decode_pod
from edgecore.edged.volumes.inputs import VolumeInputs
from edgecore.records import Commit
from synccore.messages import Delta, ObjectKey, Op

_versions = itertools.count(1)


def pod_object(name="web", uid="u-1", containers=None, *, metadata=None, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": uid, **(metadata or {})},
        "spec": {"containers": containers or [container()], "nodeName": "edge-1", **spec},
    }


def container(name="app", image="busybox:1", **fields):
    return {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", **fields}


def make_pod(*args, **kwargs):
    return decode_pod(json.dumps(pod_object(*args, **kwargs)).encode())[0]


def volume_inputs(lookup=lambda _kind, _name: None, **parts):
    return VolumeInputs(lookup, PodFacts("edge-1", [], [], {}), **parts)


def upsert(kind, obj):
    meta = obj["metadata"]
    key = ObjectKey(kind, meta["namespace"], meta["name"])
    body = obj if isinstance(obj, bytes) else json.dumps(obj).encode()
    return Delta(Op.UPSERT, key, meta.get("uid", ""), next(_versions), body=body)


def tombstone(kind, name, uid=""):
    return Delta(Op.TOMBSTONE, ObjectKey(kind, "default", name), uid, next(_versions))


def config_map(name, **data):
    return {"kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def secret(name, **data):
    encoded = {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}
    return {"kind": "Secret", "metadata": {"name": name, "namespace": "default"}, "data": encoded}


async def put(store, kind, obj):
    await store.commit(Commit(deltas=[upsert(kind, obj)]))


async def drop(store, kind, name, uid=""):
    await store.commit(Commit(deltas=[tombstone(kind, name, uid)]))
