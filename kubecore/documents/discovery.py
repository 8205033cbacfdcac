"""Discovery documents: which groups, versions and resources there are.

Clients ask for the aggregated form (one request); kubectl up to 1.29 knows only its v2beta1, older and other
clients the legacy documents, one per group and version.
"""

from __future__ import annotations

from typing import Any, Literal

from kubecore.kinds.registry import Registry
from kubecore.kinds.resource import Resource, Subresource
from kubecore.kinds.virtual import VIRTUAL

Aggregated = Literal["v2", "v2beta1"]
_AGGREGATED_GROUP = "apidiscovery.k8s.io"


def aggregated_content_type(version: Aggregated) -> str:
    """Return the Content-Type of an aggregated document; clients fall back to legacy unless it says all this."""
    return f"application/json;g={_AGGREGATED_GROUP};v={version};as=APIGroupDiscoveryList"


def api_versions(registry: Registry, server_address: str = "") -> dict[str, Any]:
    """Return legacy `/api`."""
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]
    return {
        "kind": "APIVersions",
        "versions": _versions(registry, ""),
        "serverAddressByClientCIDRs": addresses,
    }


def api_group_list(registry: Registry) -> dict[str, Any]:
    """Return legacy `/apis`."""
    groups = [_group(registry, group) for group in _groups(registry)]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(registry: Registry, group: str) -> dict[str, Any] | None:
    """Return legacy `/apis/GROUP`, or None if there is no such group."""
    if group not in _groups(registry):
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(registry, group)}


def api_resource_list(registry: Registry, group: str, version: str) -> dict[str, Any] | None:
    """Return legacy `/api/v1` (group "") or `/apis/GROUP/VERSION`, or None if there is no such version."""
    found = _resources(registry, group, version)
    if not found:
        return None
    entries: list[dict[str, Any]] = []
    for resource in found:
        entries.append(_legacy_resource(resource))
        entries += [_legacy_subresource(resource, sub) for sub in subresources(resource)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": found[0].api_version,
        "resources": entries,
    }


def aggregated(registry: Registry, version: Aggregated, *, core: bool) -> dict[str, Any]:
    """Return the aggregated document of `/api` (`core`) or `/apis`."""
    groups = [""] if core else _groups(registry)
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"{_AGGREGATED_GROUP}/{version}",
        "metadata": {},
        "items": [_aggregated_group(registry, group) for group in groups],
    }


def subresources(resource: Resource) -> tuple[Subresource, ...]:
    """Return the subresources of `resource`, its status included."""
    status = (Subresource("status", ("get", "patch", "update")),) if resource.has_status else ()
    return (*resource.subresources, *status)


def _all(registry: Registry) -> list[Resource]:
    return [*registry.resources(), *VIRTUAL]


def _groups(registry: Registry) -> list[str]:
    return list(dict.fromkeys(r.group for r in _all(registry) if r.group))


def _versions(registry: Registry, group: str) -> list[str]:
    found = dict.fromkeys(r.version for r in _all(registry) if r.group == group)
    return sorted(found, key=version_rank)


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Return a sort key that puts the version clients should prefer first: v2, v1, v1beta1, v1alpha2, others."""
    head, _, tail = version.removeprefix("v").partition("beta")
    stage = 1
    if not tail:
        head, _, tail = version.removeprefix("v").partition("alpha")
        stage = 2 if tail else 0
    if not version.startswith("v") or not head.isdigit() or not (tail.isdigit() or stage == 0):
        return (3, 0, 0, version)
    return (stage, -int(head), -int(tail or 0), version)


def _resources(registry: Registry, group: str, version: str) -> list[Resource]:
    return [r for r in _all(registry) if r.group == group and r.version == version]


def _group(registry: Registry, group: str) -> dict[str, Any]:
    versions = [
        {"groupVersion": f"{group}/{version}", "version": version}
        for version in _versions(registry, group)
    ]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def _legacy_subresource(resource: Resource, sub: Subresource) -> dict[str, Any]:
    group, _, version = sub.group_version.rpartition("/")
    return {
        "name": f"{resource.plural}/{sub.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        **({"group": group, "version": version} if version else {}),
        "kind": sub.kind or resource.kind,
        "verbs": list(sub.verbs),
    }


def _legacy_resource(resource: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    return entry


def _aggregated_group(registry: Registry, group: str) -> dict[str, Any]:
    return {
        "metadata": {"name": group} if group else {},
        "versions": [
            {
                "version": version,
                "resources": [
                    _aggregated_resource(r) for r in _resources(registry, group, version)
                ],
                "freshness": "Current",
            }
            for version in _versions(registry, group)
        ],
    }


def _aggregated_resource(resource: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": _kind(resource, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    below = [
        {
            "subresource": sub.name,
            "responseKind": _sub_kind(resource, sub),
            "verbs": list(sub.verbs),
        }
        for sub in subresources(resource)
    ]
    if below:
        entry["subresources"] = below
    return entry


def _sub_kind(resource: Resource, sub: Subresource) -> dict[str, str]:
    group, _, version = sub.group_version.rpartition("/")
    kind = sub.kind or resource.kind
    own = _kind(resource, kind)
    return {"group": group, "version": version, "kind": kind} if version else own


def _kind(resource: Resource, kind: str) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "kind": kind}
