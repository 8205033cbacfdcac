"""What `armadillo up` puts into the cluster: custom resource definitions, roles, and the demo lamp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import devicemodels
from corekit.errors import ConfigError

TREE = Path(__file__).parents[2]
MODELS = Path(devicemodels.__file__).parent
DEMO_NAMESPACE, DEMO_DEVICE = "default", "lamp-01"


def cluster_objects() -> list[dict[str, Any]]:
    """Return definitions first, then roles: everything cloudcore needs before it starts."""
    manifests = [*sorted((MODELS / "crds").glob("*.yaml")), TREE / "deploy" / "rbac.yaml"]
    return [obj for path in manifests for obj in load_manifest(path)]


def demo_objects(node: str) -> list[dict[str, Any]]:
    """Return the lamp's model and the lamp itself, on `node`."""
    objects = [
        obj
        for path in sorted((MODELS / "samples").glob("lamp*.yaml"))
        for obj in load_manifest(path)
    ]
    for obj in objects:
        obj["metadata"]["namespace"] = DEMO_NAMESPACE
        if obj["kind"] == "Device":
            obj["spec"]["nodeName"] = node
    return sorted(objects, key=lambda obj: obj["kind"] == "Device")


def load_manifest(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a YAML file. Raises: ConfigError: it cannot be read."""
    try:
        documents = list(yaml.safe_load_all(path.read_bytes()))
    except OSError as exc:
        raise ConfigError(str(path), "", f"cannot be read: {exc.strerror}") from exc
    return [document for document in documents if document]
