"""What `armadillo up` puts into the cluster: custom resource definitions, roles, and the demo lamp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from corekit.errors import ConfigError
from devicemodels.manifests import crd_documents, sample_documents

TREE = Path(__file__).parents[2]
ROLES = TREE / "deploy" / "rbac.yaml"
DEMO_NAMESPACE, DEMO_DEVICE = "default", "lamp-01"


def cluster_objects() -> list[dict[str, Any]]:
    """Return definitions first, then roles: everything cloudcore needs before it starts."""
    return [*crd_documents(), *load_manifest(ROLES)]


def demo_objects(node: str) -> list[dict[str, Any]]:
    """Return the lamp's model and the lamp itself, on `node`."""
    objects = sample_documents()
    for obj in objects:
        obj["metadata"]["namespace"] = DEMO_NAMESPACE
        if obj["kind"] == "Device":
            obj["spec"]["nodeName"] = node
    return objects


def role_of(node: str) -> dict[str, Any]:
    """Return what marks `node` as an edge node; a node may not give itself a role, so an administrator does."""
    labels = {f"node-role.kubernetes.io/{role}": "" for role in ("agent", "edge")}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": labels}}


def load_manifest(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a YAML file. Raises: ConfigError: it cannot be read."""
    try:
        documents = list(yaml.safe_load_all(path.read_bytes()))
    except OSError as exc:
        raise ConfigError(str(path), "", f"cannot be read: {exc.strerror}") from exc
    return [document for document in documents if document]
