"""`python -m devicemodels.generate [--check]`: write the CRDs and the reference page from the structs of `objects`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from devicemodels.crdschema import Schema, kind_schema, with_required_keys
from devicemodels.objects import Device, DeviceModel, DeviceStatusObject, Kind

ROOT = Path(__file__).resolve().parent.parent
GROUP = "devices.kubeedge.io"
HEADER = (
    "# Made by `python -m devicemodels.generate` from devicemodels/objects.py: change it there.\n"
)
PAGE = "docs/devices-reference.md"
INTRODUCTION = (
    "# Devices: every field\n\n"
    "Made by `python -m devicemodels.generate`; the same source makes the CRDs and the check of every object at\n"
    "cloud and edge. `kubectl explain device.spec --recursive` shows the same. How to use them:\n"
    "[devices.md](devices.md).\n"
)
_CONDITION = '.status.conditions[?(@.type=="{}")].{}'
_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _column(name: str, path: str, *, kind: str = "string", priority: int = 0) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


MODEL_COLUMNS = [
    _column("Protocol", ".spec.protocol"),
    _AGE,
]
DEVICE_COLUMNS = [
    _column("Node", ".spec.nodeName"),
    _column("Model", ".spec.deviceModelRef.name"),
    _column("State", ".status.state"),
    _column("Synced", _CONDITION.format("Synced", "status")),
    _column("Accepted", _CONDITION.format("Accepted", "reason"), priority=1),
    _column("Unsynced", _CONDITION.format("Synced", "message"), priority=1),
    _column("Last online", ".status.lastOnlineTime", kind="date", priority=1),
    _AGE,
]


MIRROR_COLUMNS = [
    _column("State", ".status.state"),
    _column("Last online", ".status.lastOnlineTime", kind="date"),
    _AGE,
]


def crds() -> dict[str, dict[str, Any]]:
    """Return the CustomResourceDefinitions by the name of their file."""
    return {
        "devicemodels.yaml": _crd(DeviceModel, "devicemodels", "dm", MODEL_COLUMNS),
        "devices.yaml": _crd(Device, "devices", "dev", DEVICE_COLUMNS, subresources={"status": {}}),
        # No subresource: KubeEdge's programs patch the object itself.
        "devicestatuses.yaml": _crd(
            DeviceStatusObject, "devicestatuses", "devstat", MIRROR_COLUMNS
        ),
    }


def _crd(
    kind: Kind,
    plural: str,
    short: str,
    columns: list[dict[str, Any]],
    **more: Any,
) -> dict[str, Any]:
    name = kind().kind
    names = {
        "kind": name,
        "listKind": f"{name}List",
        "plural": plural,
        "singular": name.lower(),
        "shortNames": [short],
        "categories": ["edge"],
    }
    version = {
        "name": "v1beta1",
        "served": True,
        "storage": True,
        **more,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": with_required_keys(kind_schema(kind))},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def reference_page() -> str:
    """Return docs/devices-reference.md."""
    parts = [INTRODUCTION]
    for kind in (DeviceModel, Device, DeviceStatusObject):
        schema = with_required_keys(kind_schema(kind))
        parts.append(f"\n## {kind().kind}\n\n{schema['description']}\n")
        for part in ("spec", "status"):
            if part in schema["properties"]:
                parts.append("\n| field | type | limits | |\n|---|---|---|---|\n")
                parts += list(_rows(part, schema["properties"][part]))
        for where, rule in _rules("", schema):
            parts.append(f"\nRule on `{where}`: {rule['message']}.\n")
    return "".join(parts)


def _rows(path: str, schema: Schema) -> Iterator[str]:
    inner = schema
    kind = schema["type"]
    if kind == "array":
        inner, kind, path = schema["items"], f"list of {schema['items']['type']}", f"{path}[]"
    limits = ", ".join(_limits(schema) + (_limits(inner) if inner is not schema else []))
    text = schema.get("description") or inner.get("description", "")
    # A pipe ends a cell, even in code.
    cells = (cell.replace("|", "\\|").replace("\n", " ") for cell in (limits, text))
    yield f"| `{path}` | {kind} | {' | '.join(cells)} |\n"
    for name, child in inner.get("properties", {}).items():
        yield from _rows(f"{path}.{name}", child)


def _limits(schema: Schema) -> list[str]:
    said = []
    if "enum" in schema:
        said.append(", ".join(f"`{word}`" for word in schema["enum"]))
    if schema.get("required"):
        said.append("needs " + ", ".join(f"`{name}`" for name in schema["required"]))
    if schema.get("x-kubernetes-list-map-keys"):
        said.append("unique `" + "`, `".join(schema["x-kubernetes-list-map-keys"]) + "`")
    for key, word in (("maxItems", "items"), ("maxLength", "characters")):
        if key in schema:
            said.append(f"at most {schema[key]} {word}")
    if "minimum" in schema or "maximum" in schema:
        said.append(f"{schema.get('minimum', '')} … {schema.get('maximum', '')}".strip())
    if "pattern" in schema:
        said.append(f"`{schema['pattern']}`")
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        said.append("anything")
    return said


def _rules(path: str, schema: Schema) -> Iterator[tuple[str, dict[str, str]]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, rule
    for name, child in schema.get("properties", {}).items():
        yield from _rules(f"{path}.{name}".strip("."), child)
    if "items" in schema:
        yield from _rules(f"{path}[]", schema["items"])


def outputs() -> dict[str, str]:
    """Return what is generated, by path in the tree."""
    made = {
        f"devicemodels/crds/{name}": HEADER
        + yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)
        for name, document in crds().items()
    }
    return {**made, PAGE: reference_page()}


def stale() -> list[str]:
    """Return the generated files that are not what they would be now."""
    return [
        path
        for path, text in outputs().items()
        if not (ROOT / path).exists() or (ROOT / path).read_text(encoding="utf-8") != text
    ]


def main(argv: list[str]) -> int:
    """Write the files, or with --check only tell which are stale; return the exit status."""
    if argv == ["--check"]:
        found = stale()
        sys.stderr.writelines(
            f"{path} is stale: python -m devicemodels.generate\n" for path in found
        )
        return 1 if found else 0
    for path, text in outputs().items():
        (ROOT / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
