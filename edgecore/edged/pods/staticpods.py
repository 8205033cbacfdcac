"""Pods from files of the node: read, named and marked as kubelet does it; knows no cloud and no runtime."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from corekit.yamltext import YamlError, parse_yaml
from edgecore.edged.spec.podspec import PodSpecError, decode_pod
from edgecore.records import StoredObject
from synccore.messages import ObjectKey

logger = logging.getLogger(__name__)

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
SOURCE_ANNOTATION = "kubernetes.io/config.source"
HASH_ANNOTATION = "kubernetes.io/config.hash"
MAX_FILES = (
    512  # several times what a node runs; a wrong path (a home directory) must not be read whole
)
MAX_FILE_BYTES = 1 << 20  # an object in the API is not larger
_STATIC = "StaticPod"  # not a kind of the cloud's: a pod of the same name there is another one
_Stamp = tuple[int, int, int]


@dataclass
class StaticFolder:
    """The pods in one folder of manifests; `scan` blocks."""

    folder: Path
    node_name: str
    pods: dict[ObjectKey, StoredObject] = field(default_factory=dict)
    _files: dict[str, tuple[_Stamp, StoredObject | None]] = field(default_factory=dict)

    def scan(self) -> dict[ObjectKey, StoredObject | None]:
        """Return what changed since the last scan; None: its file is gone.

        A file that cannot be read as a pod changes nothing: what it held before goes on.
        """
        seen: dict[str, tuple[_Stamp, StoredObject | None]] = {}
        try:
            entries = self._entries()
        except OSError as exc:
            logger.warning("static pods: %s: %s", self.folder, exc.strerror)
            return {}
        for path, stamp in entries:
            known = self._files.get(path.name)
            if known is not None and known[0] == stamp:
                seen[path.name] = known
                continue
            before = known[1] if known is not None else None
            seen[path.name] = (stamp, self._read(path) or before)
        self._files = seen
        now: dict[ObjectKey, StoredObject] = {}
        for name, (_, stored) in sorted(seen.items()):
            if stored is not None and now.setdefault(stored.key, stored) is not stored:
                logger.warning("static pod %s: %s is named twice", name, stored.key.name)
        changed: dict[ObjectKey, StoredObject | None] = {
            key: stored for key, stored in now.items() if self.pods.get(key) != stored
        }
        changed |= dict.fromkeys(self.pods.keys() - now.keys())
        self.pods = now
        return changed

    def _entries(self) -> list[tuple[Path, _Stamp]]:
        """Return the files with what tells a change. Raises: OSError: the folder is there and cannot be read."""
        try:
            paths = sorted(p for p in self.folder.iterdir() if not p.name.startswith("."))
        except FileNotFoundError:
            return []
        if len(paths) > MAX_FILES:
            logger.warning("static pods: %s: only %d files are read", self.folder, MAX_FILES)
        found = []
        for path in paths[:MAX_FILES]:
            with suppress(OSError):  # gone since
                stat = path.stat()
                if path.is_file():
                    found.append((path, (stat.st_mtime_ns, stat.st_size, stat.st_ino)))
        return found

    def _read(self, path: Path) -> StoredObject | None:
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError(f"is larger than {MAX_FILE_BYTES} bytes")
            tree = parse_yaml(path.read_bytes(), aliases=False)
            stored = static_pod(tree, str(path), self.node_name)
            decode_pod(stored.body)
        except (OSError, ValueError, YamlError, PodSpecError) as exc:
            logger.warning("static pod %s: %s", path, exc)
            return None
        return stored


class StaticTurns:
    """Lets static pods of one name follow each other: the next starts when nothing is left of the one before.

    They may want the same port or folder of the node, and the mirror stands for the old one until it has ended.
    Shapes:  here: what runs, or is being ended, by key.
    """

    def __init__(self) -> None:
        self.here: dict[ObjectKey, StoredObject] = {}
        self._next: dict[ObjectKey, StoredObject] = {}

    def may_start(self, key: ObjectKey, stored: StoredObject | None) -> bool:
        """Take the newest manifest of `key`, None: it is gone; return whether nothing is in its way."""
        self._next.pop(key, None)
        if stored is None:
            return True
        before = self.here.setdefault(key, stored)
        if before.uid == stored.uid:
            self.here[key] = stored
            return True
        self._next[key] = stored
        return False

    def left(self, uid: str) -> list[tuple[ObjectKey, StoredObject | None]]:
        """Note that nothing is left of the pod `uid`; return whose turn it is, None: nobody waits."""
        keys = [key for key, stored in self.here.items() if stored.uid == uid]
        for key in keys:
            del self.here[key]
        return [(key, self._next.pop(key, None)) for key in keys]


def static_pod(tree: Any, path: str, node_name: str) -> StoredObject:
    """Return the manifest as the pod of this node that it makes. Raises: ValueError: it is no Pod."""
    if not isinstance(tree, dict) or tree.get("kind") != "Pod" or tree.get("apiVersion") != "v1":
        raise ValueError("is not a Pod of apiVersion v1")
    metadata, spec = tree.get("metadata"), tree.get("spec")
    if not isinstance(metadata, dict) or not isinstance(spec, dict):
        raise ValueError("has no metadata or no spec")
    name, namespace = metadata.get("name"), metadata.get("namespace") or "default"
    if not isinstance(name, str) or not name or not isinstance(namespace, str):
        raise ValueError("metadata.name is missing")
    # Another file, node or content is another pod, as upstream has it.
    material = msgspec.json.encode([node_name, path, tree], order="sorted")
    uid = hashlib.md5(material, usedforsecurity=False).hexdigest()  # as long as kubelet's
    annotations = metadata.get("annotations") or {}
    own = {HASH_ANNOTATION: uid, SOURCE_ANNOTATION: "file"}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata,
            "name": f"{name}-{node_name}",
            "namespace": namespace,
            "uid": uid,
            "annotations": {**annotations, **own},
        },
        "spec": {
            **spec,
            "nodeName": node_name,
            # No taint ends a pod that nobody would put anywhere else.
            "tolerations": [
                *(spec.get("tolerations") or ()),
                {"operator": "Exists", "effect": "NoExecute"},
            ],
        },
    }
    key = ObjectKey(_STATIC, namespace, f"{name}-{node_name}")
    return StoredObject(key, uid, 0, msgspec.json.encode(body))


def mirror_body(stored: StoredObject) -> bytes:
    """Return the pod that stands for a static one in the cluster."""
    pod = msgspec.json.decode(stored.body)
    metadata = {k: v for k, v in pod["metadata"].items() if k != "uid"}
    metadata["annotations"] = {**metadata["annotations"], MIRROR_ANNOTATION: stored.uid}
    return msgspec.json.encode({**pod, "metadata": metadata})
