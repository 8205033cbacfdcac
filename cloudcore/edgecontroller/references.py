"""Which node an object belongs to and what it refers to; reads only the fields that say so."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from cloudcore.kube.decoding import decode
from synccore.messages import ObjectKey

# On pods that stand for pods from a node's own files. Their node knows them by it, and runs none of them.
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"


CLAIM, VOLUME = "PersistentVolumeClaim", "PersistentVolume"


class Placement(NamedTuple):
    """Shapes:  node: None if no node must hold the object. refers: keys the node needs beside it."""

    node: str | None
    refers: frozenset[ObjectKey]


# Told to every pod, wherever it is: the address of the API server.
MASTER_SERVICE = ObjectKey("Service", "default", "kubernetes")


def services_of(namespace: str) -> ObjectKey:
    """Return the key that stands for all services of `namespace` that have an address."""
    return ObjectKey("Service", namespace, "")


class _Named(msgspec.Struct):
    name: str | None = None


class _EnvSource(msgspec.Struct, rename="camel"):
    config_map_key_ref: _Named | None = None
    secret_key_ref: _Named | None = None


class _Env(msgspec.Struct, rename="camel"):
    value_from: _EnvSource | None = None


class _EnvFrom(msgspec.Struct, rename="camel"):
    config_map_ref: _Named | None = None
    secret_ref: _Named | None = None


class _Container(msgspec.Struct, rename="camel"):
    env: list[_Env] | None = None
    env_from: list[_EnvFrom] | None = None


class _SecretVolume(msgspec.Struct, rename="camel"):
    secret_name: str | None = None


class _ProjectedSource(msgspec.Struct, rename="camel"):
    config_map: _Named | None = None
    secret: _Named | None = None


class _Projected(msgspec.Struct):
    sources: list[_ProjectedSource] | None = None


class _ClaimVolume(msgspec.Struct, rename="camel"):
    claim_name: str | None = None


class _Ephemeral(msgspec.Struct):
    """Its claim has a name of its own; what is in it is the controller's that makes the claim."""


class _Volume(msgspec.Struct, rename="camel"):
    name: str = ""
    persistent_volume_claim: _ClaimVolume | None = None
    ephemeral: _Ephemeral | None = None
    config_map: _Named | None = None
    secret: _SecretVolume | None = None
    projected: _Projected | None = None


class _PodSpec(msgspec.Struct, rename="camel"):
    node_name: str | None = None
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    ephemeral_containers: list[_Container] | None = None
    volumes: list[_Volume] | None = None
    image_pull_secrets: list[_Named] | None = None
    enable_service_links: bool | None = None
    runtime_class_name: str | None = None


class _Metadata(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    annotations: dict[str, str] | None = None


class _Pod(msgspec.Struct):
    metadata: _Metadata
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)


class _ClaimSpec(msgspec.Struct, rename="camel"):
    volume_name: str | None = None


class _Claim(msgspec.Struct):
    spec: _ClaimSpec = msgspec.field(default_factory=_ClaimSpec)


class _DeviceSpec(msgspec.Struct, rename="camel"):
    node_name: str | None = None
    device_model_ref: _Named | None = None


class _Device(msgspec.Struct):
    metadata: _Metadata
    spec: _DeviceSpec = msgspec.field(default_factory=_DeviceSpec)


_pod_decoder = msgspec.json.Decoder(_Pod)
_claim_decoder = msgspec.json.Decoder(_Claim)
_device_decoder = msgspec.json.Decoder(_Device)


def place_pod(body: bytes) -> Placement:
    """Return where a Pod belongs. Raises: msgspec.DecodeError: a field has another type."""
    pod = decode(_pod_decoder, body)
    spec, names = pod.spec, _Names()
    if MIRROR_ANNOTATION in (pod.metadata.annotations or {}):
        return Placement(spec.node_name or None, frozenset())
    for container in (
        *(spec.containers or ()),
        *(spec.init_containers or ()),
        *(spec.ephemeral_containers or ()),
    ):
        names.of_container(container)
    for volume in spec.volumes or ():
        names.of_volume(volume, pod.metadata.name)
    for pull in spec.image_pull_secrets or ():
        names.add("Secret", pull)
    namespace = pod.metadata.namespace
    keys = {ObjectKey(kind, namespace, name) for kind, name in names.found}
    keys.add(MASTER_SERVICE)
    if spec.enable_service_links is not False:
        keys.add(services_of(namespace))
    if spec.runtime_class_name:
        keys.add(ObjectKey("RuntimeClass", "", spec.runtime_class_name))
    return Placement(spec.node_name or None, frozenset(keys))


class _ServiceSpec(msgspec.Struct):
    clusterIP: str | None = None  # noqa: N815  (the API's name)


class _Service(msgspec.Struct):
    spec: _ServiceSpec = msgspec.field(default_factory=_ServiceSpec)


_service_decoder = msgspec.json.Decoder(_Service)


def has_address(body: bytes) -> bool:
    """Return whether a Service has an address of its own: headless and external ones have not.

    Raises:  msgspec.DecodeError: a field has another type.
    """
    return decode(_service_decoder, body).spec.clusterIP not in (None, "", "None")


def volume_of(body: bytes) -> ObjectKey | None:
    """Return the PersistentVolume that a claim is bound to. Raises: msgspec.DecodeError."""
    name = decode(_claim_decoder, body).spec.volume_name
    return ObjectKey(VOLUME, "", name) if name else None


def place_device(body: bytes) -> Placement:
    """Return where a Device belongs. Raises: msgspec.DecodeError: a field has another type."""
    device = decode(_device_decoder, body)
    model = device.spec.device_model_ref
    refers: frozenset[ObjectKey] = frozenset()
    if model is not None and model.name:
        refers = frozenset({ObjectKey("DeviceModel", device.metadata.namespace, model.name)})
    return Placement(device.spec.node_name or None, refers)


class _Names:
    """Collects (kind, name) of what a pod refers to."""

    def __init__(self) -> None:
        self.found: set[tuple[str, str]] = set()

    def add(self, kind: str, named: _Named | None) -> None:
        if named is not None and named.name:
            self.found.add((kind, named.name))

    def of_container(self, container: _Container) -> None:
        for env in container.env or ():
            if env.value_from is not None:
                self.add("ConfigMap", env.value_from.config_map_key_ref)
                self.add("Secret", env.value_from.secret_key_ref)
        for source in container.env_from or ():
            self.add("ConfigMap", source.config_map_ref)
            self.add("Secret", source.secret_ref)

    def of_volume(self, volume: _Volume, pod: str) -> None:
        if volume.persistent_volume_claim is not None:
            self.add(CLAIM, _Named(volume.persistent_volume_claim.claim_name))
        elif volume.ephemeral is not None:
            self.add(CLAIM, _Named(f"{pod}-{volume.name}"))
        self.add("ConfigMap", volume.config_map)
        if volume.secret is not None:
            self.add("Secret", _Named(volume.secret.secret_name))
        for source in (volume.projected.sources if volume.projected else None) or ():
            self.add("ConfigMap", source.config_map)
            self.add("Secret", source.secret)
