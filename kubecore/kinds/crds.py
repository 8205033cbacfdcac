"""CustomResourceDefinitions: what makes one valid, what it serves, and its status."""

from __future__ import annotations

import re
from typing import Any

from corekit.timestamps import rfc3339
from kubecore.kinds.builtin import BUILTIN
from kubecore.kinds.resource import Column, Resource
from kubecore.values.invalid import (
    Cause,
    InvalidObjectError,
    forbidden,
    invalid,
    not_supported,
    required,
)
from kubecore.values.jsonpath import compile_path
from kubecore.values.names import label_problem, subdomain_problem
from kubecore.values.structural_rules import compile_pattern

GROUP_KIND = "CustomResourceDefinition.apiextensions.k8s.io"
_TYPES = ["array", "boolean", "integer", "number", "object", "string"]
_BUILTIN_GROUPS = frozenset(resource.group for resource in BUILTIN if resource.group)
_TYPELESS = ("x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")
_AGE = Column(
    "Age",
    "date",
    ".metadata.creationTimestamp",
    "CreationTimestamp is a timestamp representing the server time when this object was created.",
)


def check_crd(crd: dict[str, Any]) -> None:
    """Raise unless `crd` can be served.

    Raises:  InvalidObjectError: with one cause for each rule that is broken.
    """
    if causes := crd_causes(crd):
        raise InvalidObjectError(GROUP_KIND, crd.get("metadata", {}).get("name", ""), causes)


def crd_causes(crd: dict[str, Any]) -> list[Cause]:
    """Return what is wrong with the spec of a decoded CRD; a missing field is the decoder's to report."""
    spec = crd.get("spec") or {}
    names, versions = spec.get("names") or {}, spec.get("versions") or []
    causes: list[Cause] = []
    plural, group = names.get("plural", ""), spec.get("group", "")
    name = crd.get("metadata", {}).get("name", "")
    if name != f"{plural}.{group}":
        rule = 'must be spec.names.plural+"."+spec.group'
        causes.append(invalid("metadata.name", name, rule))
    if group in _BUILTIN_GROUPS:
        causes.append(forbidden("spec.group", f"{group} is a group of built-in kinds"))
    elif "." not in group:
        causes.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    elif problem := subdomain_problem(group):
        causes.append(invalid("spec.group", group, problem))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        causes.append(not_supported("spec.scope", spec.get("scope"), ["Cluster", "Namespaced"]))
    causes += [
        invalid(f"spec.names.{key}", word, problem)
        for key in ("plural", "singular")
        if (word := names.get(key)) and (problem := label_problem(word))
    ]
    if not names.get("kind"):
        causes.append(required("spec.names.kind"))
    return causes + _check_conversion(spec) + _check_versions(versions)


def _check_conversion(spec: dict[str, Any]) -> list[Cause]:
    strategy = (spec.get("conversion") or {}).get("strategy", "None")
    if strategy == "None":
        return []
    return [not_supported("spec.conversion.strategy", strategy, ["None"])]  # webhooks: not served


def _check_versions(versions: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, version in enumerate(versions):
        field = f"spec.versions[{index}]"
        name = version.get("name", "")
        if problem := label_problem(name):
            causes.append(invalid(f"{field}.name", name, problem))
        if name in seen:
            causes.append(invalid("spec.versions", name, "must contain unique version names"))
        seen.add(name)
        causes += _check_schema_root(version, field)
        for number, column in enumerate(version.get("additionalPrinterColumns") or []):
            where = f"{field}.additionalPrinterColumns[{number}].jsonPath"
            causes += _check_path(column.get("jsonPath", ""), where)
    if sum(bool(version.get("storage")) for version in versions) != 1:
        rule = "must have exactly one version marked as storage version"
        causes.append(invalid("spec.versions", [v.get("name") for v in versions], rule))
    return causes


def _check_path(path: str, where: str) -> list[Cause]:
    if not path.startswith((".", "{.", "$.")):
        return [invalid(where, path, "must be a simple json path starting with a dot")]
    try:
        compile_path(path)
    except ValueError as exc:
        return [invalid(where, path, str(exc))]
    return []


def _check_schema_root(version: dict[str, Any], field: str) -> list[Cause]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    where = f"{field}.schema.openAPIV3Schema"
    if not isinstance(schema, dict):
        return [required(where, "schemas are required")]
    if schema.get("type") != "object":
        return [invalid(f"{where}.type", schema.get("type", ""), "must be object at the root")]
    return _check_structural(schema, where)


def _check_structural(schema: Any, where: str) -> list[Cause]:
    """Return why a schema node is not structural: a missing or unknown type, a pattern that is none."""
    if not isinstance(schema, dict):
        return [invalid(where, schema, "must be a schema")]
    causes = _check_node(schema, where)
    for name, child in (schema.get("properties") or {}).items():
        causes += _check_structural(child, f"{where}.properties[{name}]")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            causes += _check_structural(schema[key], f"{where}.{key}")
    return causes


def _check_node(schema: dict[str, Any], where: str) -> list[Cause]:
    causes: list[Cause] = []
    kind = schema.get("type")
    if not kind and not any(schema.get(key) for key in _TYPELESS):
        causes.append(required(f"{where}.type", "must not be empty for specified object fields"))
    elif kind and kind not in _TYPES:
        causes.append(not_supported(f"{where}.type", kind, _TYPES))
    if kind == "array" and not isinstance(schema.get("items"), dict):
        causes.append(required(f"{where}.items", "must be specified"))
    if "$ref" in schema:
        causes.append(forbidden(f"{where}.$ref", "$ref is not supported"))
    pattern = schema.get("pattern", "")
    try:
        compile_pattern(pattern)
    except re.error as exc:
        rule = f"must be a valid regular expression: {exc}"
        causes.append(invalid(f"{where}.pattern", pattern, rule))
    return causes


def names_conflict(crd: dict[str, Any], others: list[dict[str, Any]]) -> str | None:
    """Return why the names of `crd` are taken by one of `others` (in the same group), or None."""
    names = accepted_names(crd)
    for other in others:
        same_group = other["spec"]["group"] == crd["spec"]["group"]
        if not same_group or other["metadata"]["name"] == crd["metadata"]["name"]:
            continue
        theirs = accepted_names(other)
        for key in ("plural", "singular", "kind", "listKind"):
            if names[key] == theirs[key]:
                return f'"{names[key]}" is already in use'
    return None


def accepted_names(crd: dict[str, Any]) -> dict[str, Any]:
    """Return `spec.names` with singular and listKind filled in."""
    names: dict[str, Any] = dict(crd["spec"]["names"])
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", names["kind"] + "List")
    return names


def storage_version(crd: dict[str, Any]) -> str:
    """Return the name of the version that objects are stored in."""
    return next(str(v["name"]) for v in crd["spec"]["versions"] if v.get("storage"))


def crd_status(crd: dict[str, Any], others: list[dict[str, Any]], now_s: float) -> dict[str, Any]:
    """Return the `status` of `crd` beside `others`: NamesAccepted, Established, and what is stored.

    Conditions that do not change keep their time.
    """
    problem = names_conflict(crd, others)
    ok = "True" if problem is None else "False"
    before = {c["type"]: c for c in (crd.get("status") or {}).get("conditions") or []}
    accepted = {
        "type": "NamesAccepted",
        "status": ok,
        "reason": "NoConflicts" if problem is None else "NamesConflict",
        "message": problem or "no conflicts found",
    }
    established = {
        "type": "Established",
        "status": ok,
        "reason": "InitialNamesAccepted" if problem is None else "NotAccepted",
        "message": "the initial names have been accepted"
        if problem is None
        else "not all names are accepted",
    }
    for condition in (accepted, established):
        old = before.get(condition["type"], {})
        same = old.get("status") == condition["status"]
        condition["lastTransitionTime"] = old["lastTransitionTime"] if same else rfc3339(now_s)
    stored = list((crd.get("status") or {}).get("storedVersions") or [])
    if storage_version(crd) not in stored:
        stored.append(storage_version(crd))
    return {
        "acceptedNames": accepted_names(crd),
        "conditions": [accepted, established],
        "storedVersions": stored,
    }


def resources_of(crd: dict[str, Any]) -> list[Resource]:
    """Return one resource for each served version, the storage version first."""
    spec = crd["spec"]
    names = accepted_names(crd)
    return [
        Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            singular=names["singular"],
            namespaced=spec["scope"] == "Namespaced",
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            has_status="status" in (version.get("subresources") or {}),
            schema=version["schema"]["openAPIV3Schema"],
            columns=_columns(version),
            list_kind=names["listKind"],
            custom=True,
        )
        for version in sorted(spec["versions"], key=lambda v: not v.get("storage"))
        if version.get("served")
    ]


def _columns(version: dict[str, Any]) -> tuple[Column, ...]:
    own = version.get("additionalPrinterColumns") or []
    if not own:
        return (_AGE,)
    return tuple(
        Column(
            name=column["name"],
            type=column.get("type", "string"),
            json_path=column["jsonPath"],
            description=column.get("description", ""),
            priority=column.get("priority", 0),
            format=column.get("format", ""),
        )
        for column in own
    )
