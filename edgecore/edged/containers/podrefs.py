"""The ConfigMaps and Secrets a pod refers to: which they are, and their content by key."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Mapping

import msgspec

from edgecore.edged.containers.environment import Lookup
from edgecore.edged.spec.podspec import Pod
from edgecore.records import RecordStore, StoredObject
from synccore.messages import ObjectKey

logger = logging.getLogger(__name__)


class _Content(msgspec.Struct, rename="camel"):
    data: dict[str, str] | None = None
    binary_data: dict[str, str] | None = None


def references(pod: Pod) -> set[ObjectKey]:
    """Return the keys of all ConfigMaps and Secrets that `pod` mentions."""
    found: set[tuple[str, str]] = set()
    for container in pod.spec.every_container:
        for source in container.env_from:
            found |= {("ConfigMap", r.name) for r in (source.config_map_ref,) if r}
            found |= {("Secret", r.name) for r in (source.secret_ref,) if r}
        for env in (v.value_from for v in container.env if v.value_from):
            found |= {("ConfigMap", r.name) for r in (env.config_map_key_ref,) if r}
            found |= {("Secret", r.name) for r in (env.secret_key_ref,) if r}
    for volume in pod.spec.volumes:
        found |= {("ConfigMap", s.name) for s in (volume.config_map,) if s}
        found |= {("Secret", s.secret_name) for s in (volume.secret,) if s}
        for part in volume.projected.sources if volume.projected else ():
            found |= {("ConfigMap", s.name) for s in (part.config_map,) if s}
            found |= {("Secret", s.name) for s in (part.secret,) if s}
    found |= {("Secret", r.name) for r in pod.spec.image_pull_secrets if r.name}
    return {ObjectKey(kind, pod.metadata.namespace, name) for kind, name in found}


async def fetch_references(pod: Pod, store: RecordStore) -> Lookup:
    """Return a lookup of what `pod` refers to, as it is stored now."""
    contents: dict[tuple[str, str], Mapping[str, bytes]] = {}
    for key in references(pod):
        stored = await store.get(key)
        if stored is not None:
            contents[key.kind, key.name] = object_content(stored)
    return lambda kind, name: contents.get((kind, name))


def object_content(stored: StoredObject) -> dict[str, bytes]:
    """Return key -> bytes of a ConfigMap or Secret; what does not decode is left out and said."""
    try:
        parsed = msgspec.json.decode(stored.body, type=_Content)
    except msgspec.DecodeError as exc:
        logger.warning("%s does not decode: %s", stored.key, exc)
        return {}
    plain, encoded = parsed.data or {}, parsed.binary_data or {}
    if stored.key.kind == "Secret":
        plain, encoded = {}, plain
    content = {key: text.encode() for key, text in plain.items()}
    for key, text in encoded.items():
        try:
            content[key] = base64.b64decode(text, validate=True)
        except binascii.Error as exc:
            logger.warning("%s: key %s is not base64: %s", stored.key, key, exc)
    return content
