"""Maintenance script: write `kube-1.32.json.gz`, the schemas of the kinds that kubecore serves.

Run it by hand when a kind is added or the Kubernetes version moves; kubecore itself only reads the result:

    python3 -m venv VENV && VENV/bin/pip install kubernetes-validate
    python -m kubecore.kinds.definitions.gen_kube_types VENV/lib/python3.11/site-packages/kubernetes_validate

The source is the Kubernetes swagger as kubernetes-validate (PyPI, Apache-2.0) repacks it. What that package
changes (nullable type lists, enums on apiVersion and kind, `$defs`) is undone, so that the result is OpenAPI 3.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

RELEASE = "1.32"
CORE = "io.k8s.api.core.v1."
RBAC = "io.k8s.api.rbac.v1."
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
ROOTS = (
    *(CORE + kind for kind in ("Pod", "Node", "Namespace", "ConfigMap", "Secret", "Event")),
    *(CORE + kind for kind in ("Service", "Endpoints", "ServiceAccount", "Binding")),
    *(CORE + kind for kind in ("PersistentVolume", "PersistentVolumeClaim")),
    *(CORE + kind for kind in ("LimitRange", "ResourceQuota")),
    "io.k8s.api.storage.v1.StorageClass",
    "io.k8s.api.node.v1.RuntimeClass",
    "io.k8s.api.scheduling.v1.PriorityClass",
    "io.k8s.api.discovery.v1.EndpointSlice",
    "io.k8s.api.certificates.v1.CertificateSigningRequest",
    *(RBAC + kind for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")),
    "io.k8s.api.coordination.v1.Lease",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    META + "ListMeta",
    META + "DeleteOptions",
    META + "Status",
)
_REF = "#/$defs/"
_OUT = "#/components/schemas/"
# The package flattens these; the forms are those of the API server's own OpenAPI 3 documents.
_SPECIAL: dict[str, dict[str, Any]] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "oneOf": [{"type": "string"}, {"type": "number"}]
    },
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "oneOf": [{"type": "integer"}, {"type": "string"}],
        "format": "int-or-string",
    },
}
_DROPPED = frozenset({"x-kubernetes-unions"})


def main() -> None:
    """Read the package at the given folder and write the data file beside this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path, help="folder of an installed kubernetes_validate")
    args = parser.parse_args()
    name = f"kubernetes-json-schema/v{RELEASE}.0-local/_definitions.json"
    source = json.loads((args.package / name).read_text())["$defs"]
    found = reachable(source, ROOTS)
    text = json.dumps(found, sort_keys=True, separators=(",", ":")).encode()
    target = Path(__file__).with_name(f"kube-{RELEASE}.json.gz")
    # mtime 0: the same input gives the same file, so a rerun shows as no change.
    target.write_bytes(gzip.compress(text, 9, mtime=0))


def reachable(source: dict[str, Any], roots: tuple[str, ...]) -> dict[str, Any]:
    """Return the cleaned definitions of `roots` and of all that they refer to."""
    found: dict[str, Any] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        refs: set[str] = set()
        found[name] = _clean_definition(name, source[name], refs)
        waiting.extend(refs)
    return found


def _clean_definition(name: str, schema: dict[str, Any], refs: set[str]) -> dict[str, Any]:
    cleaned = _clean(schema, refs)
    if name in _SPECIAL:
        cleaned = dict(_SPECIAL[name])
    for identity in ("apiVersion", "kind"):
        cleaned.get("properties", {}).get(identity, {}).pop("enum", None)
    # DeleteOptions names every group there is; one entry is enough to find it.
    kinds = cleaned.get("x-kubernetes-group-version-kind", [])
    if len(kinds) > 1:
        cleaned["x-kubernetes-group-version-kind"] = [k for k in kinds if k["group"] == ""]
    return cleaned


def _clean(schema: dict[str, Any], refs: set[str]) -> dict[str, Any]:
    """Return one schema node without the package's edits; the names it refers to go into `refs`."""
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref":
            name = value.removeprefix(_REF)
            refs.add(name)
            out[key] = _OUT + name
        elif key == "type" and isinstance(value, list):
            out[key] = next(kind for kind in value if kind != "null")
        elif key == "properties":  # its keys are field names: one of them is itself called `$ref`
            out[key] = {name: _clean(child, refs) for name, child in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            out[key] = _clean(value, refs)
        elif key == "oneOf":
            out[key] = [_clean(child, refs) for child in value]
        elif key not in _DROPPED:
            out[key] = value
    if "$ref" in out and len(out) > 1:  # OpenAPI 3.0 ignores what stands beside a $ref
        out["allOf"] = [{"$ref": out.pop("$ref")}]
    return out


if __name__ == "__main__":
    main()
