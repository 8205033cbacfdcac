"""Which resources cloudcore follows, their paths, and the few fields of every object that it reads."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

import msgspec

from cloudcore.kube.decoding import decode
from synccore.messages import ObjectKey

logger = logging.getLogger(__name__)

FULL = "application/json"
# A server that cannot cut objects down answers with whole ones, which decode just as well.
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

# Names reach us from nodes and go into URL paths: nothing that could leave its path segment may pass.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Resource:
    """One kind in the API.

    Shapes:  prefix: `/api/v1` or `/apis/GROUP/VERSION`. optional: a 404 of the collection means "none yet"
             (its CRD may come later). metadata_only: bodies are not wanted, only that something changed.
    """

    kind: str
    prefix: str
    plural: str
    namespaced: bool = True
    optional: bool = False
    metadata_only: bool = False

    @property
    def collection(self) -> str:
        """Path of all objects, in every namespace."""
        return f"{self.prefix}/{self.plural}"

    @property
    def api_version(self) -> str:
        """As in the objects' `apiVersion`."""
        return self.prefix.removeprefix("/apis/").removeprefix("/api/")

    @property
    def list_accept(self) -> str:
        """Accept header of a list."""
        return _METADATA_LIST if self.metadata_only else FULL

    @property
    def watch_accept(self) -> str:
        """Accept header of a watch."""
        return _METADATA if self.metadata_only else FULL

    def within(self, namespace: str) -> str:
        """Return the path of the collection in `namespace`. Raises: ValueError: not a possible name."""
        return f"{self.prefix}/namespaces/{_checked(namespace)}/{self.plural}"

    def path(self, key: ObjectKey, subresource: str = "") -> str:
        """Return the path of one object. Raises: ValueError: not a possible name."""
        start = self.within(key.namespace) if self.namespaced else self.collection
        tail = f"/{subresource}" if subresource else ""
        return f"{start}/{_checked(key.name)}{tail}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is not a possible object name")
    return name


PODS = Resource("Pod", "/api/v1", "pods")
NODES = Resource("Node", "/api/v1", "nodes", namespaced=False)
EVENTS = Resource("Event", "/api/v1", "events")
LEASES = Resource("Lease", "/apis/coordination.k8s.io/v1", "leases")
# Metadata only: bodies are fetched one by one, for what pods of edge nodes refer to. A cluster's secrets
# (Helm alone keeps up to ten releases of 1 MiB each) never pass through this process otherwise.
CONFIG_MAPS = Resource("ConfigMap", "/api/v1", "configmaps", metadata_only=True)
SECRETS = Resource("Secret", "/api/v1", "secrets", metadata_only=True)
CLAIMS = Resource("PersistentVolumeClaim", "/api/v1", "persistentvolumeclaims", metadata_only=True)
VOLUMES = Resource(
    "PersistentVolume", "/api/v1", "persistentvolumes", namespaced=False, metadata_only=True
)
# Never listed: only their subresource `token` is asked for.
SERVICE_ACCOUNTS = Resource("ServiceAccount", "/api/v1", "serviceaccounts")
SERVICES = Resource("Service", "/api/v1", "services")
RUNTIME_CLASSES = Resource(
    "RuntimeClass", "/apis/node.k8s.io/v1", "runtimeclasses", namespaced=False, optional=True
)
DEVICES = Resource("Device", "/apis/devices.kubeedge.io/v1beta1", "devices", optional=True)
DEVICE_STATUSES = Resource(
    "DeviceStatus", "/apis/devices.kubeedge.io/v1beta1", "devicestatuses", optional=True
)
DEVICE_MODELS = Resource(
    "DeviceModel", "/apis/devices.kubeedge.io/v1beta1", "devicemodels", optional=True
)


class KubeObject(msgspec.Struct, frozen=True, gc=False):
    """One object of a cache.

    Shapes:  body: its JSON as the API server sent it, or what the informer's `shrink` left of that.
    """

    key: ObjectKey
    uid: str
    resource_version: str
    deleting: bool
    body: bytes


class _Metadata(msgspec.Struct):
    name: str
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""  # noqa: N815  (the API's names)
    deletionTimestamp: str | None = None  # noqa: N815


class _Object(msgspec.Struct):
    metadata: _Metadata


_decoder = msgspec.json.Decoder(_Object)


def read_object(kind: str, raw: bytes | msgspec.Raw) -> KubeObject:
    """Return `raw` with its identity read; of one nested too deeply to work with, only its metadata is kept.

    Raises:  msgspec.DecodeError: not a Kubernetes object.
    """
    try:
        meta = _decoder.decode(raw).metadata
        # A copy: a Raw is a view that would keep its whole list page in memory.
        body = bytes(raw)
    except RecursionError:
        meta = decode(_decoder, raw).metadata
        body = msgspec.json.encode(_Object(meta))
        logger.warning(
            "%s %s/%s: nested too deeply, treated as empty", kind, meta.namespace, meta.name
        )
    key = ObjectKey(kind, meta.namespace, meta.name)
    return KubeObject(key, meta.uid, meta.resourceVersion, meta.deletionTimestamp is not None, body)
