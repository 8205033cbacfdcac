"""Rules of the built-in kinds beyond types: on create, and on what an update may change."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kubecore.kinds.crds import crd_causes
from kubecore.kinds.resource import Resource
from kubecore.schema.validation_certificates import (
    check_new_request,
    check_request,
    request_update,
)
from kubecore.schema.validation_debug import check_ephemeral_update
from kubecore.schema.validation_pods import check_pod, check_pod_update
from kubecore.schema.validation_policies import (
    check_endpoint_slice,
    check_limit_range,
    check_priority_class,
    check_quota,
    check_runtime_class,
    endpoint_slice_update,
    priority_class_update,
    quota_update,
    runtime_class_update,
)
from kubecore.schema.validation_services import (
    check_endpoints,
    check_service,
    service_update,
)
from kubecore.schema.validation_volumes import (
    check_claim,
    check_class,
    check_volume,
    claim_update,
    volume_update,
)
from kubecore.values.invalid import (
    Cause,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)
from kubecore.values.names import label_value_problem, qualified_name_problem
from kubecore.values.signers import REQUESTS

Object = dict[str, Any]

# Kubernetes' limit for all values of one config map or secret together.
MAX_CONTENT_BYTES = 1 << 20
MAX_KEY_CHARS = 253
_KEY_RE = re.compile("[-._a-zA-Z0-9]+")
_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
    "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_CRDS = "customresourcedefinitions.apiextensions.k8s.io"
_RBAC = "rbac.authorization.k8s.io"


def check_builtin(resource: Resource, obj: Object) -> list[Cause]:
    """Return what is wrong with a decoded and defaulted object; missing fields were found before."""
    rules = _RULES.get(resource.group_resource)
    return rules(obj) if rules else []


def check_new(resource: Resource, obj: Object) -> list[Cause]:
    """Return what only a later write may bring."""
    if resource.group_resource == "pods" and obj["spec"].get("ephemeralContainers"):
        return [forbidden("spec.ephemeralContainers", "cannot be set on create")]
    if resource.group_resource == REQUESTS:
        return check_new_request(obj)
    return []


def check_update(
    resource: Resource, obj: Object, old: Object, subresource: str = ""
) -> list[Cause]:
    """Return what `obj` changes that may not change once `old` is there."""
    if subresource == "ephemeralcontainers":
        return check_ephemeral_update(obj, old)
    rules = _UPDATE_RULES.get(resource.group_resource)
    return rules(obj, old) if rules else []


def _check_config_map(obj: Object) -> list[Cause]:
    return _check_content(obj, base64_parts=("binaryData",))


def _check_secret(obj: Object) -> list[Cause]:
    return _check_content(obj, base64_parts=("data",))


def _check_content(obj: Object, base64_parts: tuple[str, ...]) -> list[Cause]:
    causes: list[Cause] = []
    total = 0
    for part in ("data", "binaryData"):
        for key, value in (obj.get(part) or {}).items():
            total += _base64_bytes(value) if part in base64_parts else len(value.encode())
            if len(key) > MAX_KEY_CHARS:
                rule = f"must be no more than {MAX_KEY_CHARS} characters"
                causes.append(invalid(f"{part}[{key[:64]}]", key, rule))
            elif not _KEY_RE.fullmatch(key) or key in (".", ".."):
                causes.append(invalid(f"{part}[{key}]", key, _KEY_TEXT))
            elif key.startswith(".."):
                causes.append(invalid(f"{part}[{key}]", key, "must not start with '..'"))
    shared = (obj.get("data") or {}).keys() & (obj.get("binaryData") or {}).keys()
    causes += [
        invalid(f"data[{key}]", key, "duplicate of key present in binaryData") for key in shared
    ]
    if total > MAX_CONTENT_BYTES:
        causes.append(too_long("data", MAX_CONTENT_BYTES))
    return causes


def _base64_bytes(text: str) -> int:
    """Return how many bytes the base64 `text` stands for."""
    return len(text) * 3 // 4 - text[-2:].count("=")


def _check_node(node: Object) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(node.get("spec", {}).get("taints") or []):
        field, key, effect = f"spec.taints[{index}]", taint.get("key", ""), taint.get("effect", "")
        if key and (problem := qualified_name_problem(key)):
            causes.append(invalid(f"{field}.key", key, problem))
        if problem := label_value_problem(taint.get("value", "")):
            causes.append(invalid(f"{field}.value", taint["value"], problem))
        known = ["NoExecute", "NoSchedule", "PreferNoSchedule"]
        if effect and effect not in known:
            causes.append(not_supported(f"{field}.effect", effect, known))
        if (key, effect) in seen:
            causes.append(duplicate(field, {"key": key, "effect": effect}))
        seen.add((key, effect))
    return causes


def _check_event(event: Object) -> list[Cause]:
    namespace = event.get("metadata", {}).get("namespace", "")
    about = event.get("involvedObject", {}).get("namespace", "")
    if about and about != namespace:
        return [invalid("involvedObject.namespace", about, "does not match event.namespace")]
    # An event about a cluster-scoped object lives in `default`; so do kubelets' about their node.
    return []


def _check_lease(lease: Object) -> list[Cause]:
    duration = lease.get("spec", {}).get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        return [invalid("spec.leaseDurationSeconds", duration, "must be greater than 0")]
    return []


def _check_binding(binding: Object) -> list[Cause]:
    causes: list[Cause] = []
    role = binding.get("roleRef") or {}
    if role.get("apiGroup", _RBAC) != _RBAC:
        causes.append(not_supported("roleRef.apiGroup", role["apiGroup"], [_RBAC]))
    known = ["ClusterRole", "Role"] if binding["kind"] == "RoleBinding" else ["ClusterRole"]
    if role.get("kind") and role["kind"] not in known:
        causes.append(not_supported("roleRef.kind", role["kind"], known))
    for index, subject in enumerate(binding.get("subjects") or []):
        kinds = ["Group", "ServiceAccount", "User"]
        if subject.get("kind") not in kinds:
            causes.append(not_supported(f"subjects[{index}].kind", subject.get("kind"), kinds))
        if subject.get("kind") == "ServiceAccount" and not subject.get("namespace"):
            causes.append(required(f"subjects[{index}].namespace"))
    return causes


def _content_update(obj: Object, old: Object) -> list[Cause]:
    causes: list[Cause] = []
    if obj.get("type") != old.get("type"):
        causes.append(invalid("type", obj.get("type"), "field is immutable"))
    if not old.get("immutable"):
        return causes
    if not obj.get("immutable"):
        causes.append(forbidden("immutable", "field is immutable when `immutable` is set"))
    causes += [
        forbidden(part, "field is immutable when `immutable` is set")
        for part in ("data", "binaryData")
        if (obj.get(part) or {}) != (old.get(part) or {})
    ]
    return causes


def _binding_update(binding: Object, old: Object) -> list[Cause]:
    if binding.get("roleRef") == old.get("roleRef"):
        return []
    return [invalid("roleRef", binding.get("roleRef"), "cannot change roleRef")]


def _crd_update(crd: Object, old: Object) -> list[Cause]:
    fields = (("group",), ("scope",), ("names", "plural"), ("names", "kind"))
    causes = []
    for path in fields:
        now, before = crd.get("spec", {}), old.get("spec", {})
        for key in path:
            now, before = now.get(key, {}), before.get(key, {})
        if now != before:
            causes.append(invalid(".".join(("spec", *path)), now, "field is immutable"))
    return causes


_RULES: dict[str, Callable[[Object], list[Cause]]] = {
    "pods": check_pod,
    "persistentvolumes": check_volume,
    "persistentvolumeclaims": check_claim,
    "storageclasses.storage.k8s.io": check_class,
    "nodes": _check_node,
    "configmaps": _check_config_map,
    "secrets": _check_secret,
    "events": _check_event,
    "services": check_service,
    "endpoints": check_endpoints,
    "limitranges": check_limit_range,
    "resourcequotas": check_quota,
    "runtimeclasses.node.k8s.io": check_runtime_class,
    "priorityclasses.scheduling.k8s.io": check_priority_class,
    "endpointslices.discovery.k8s.io": check_endpoint_slice,
    REQUESTS: check_request,
    "leases.coordination.k8s.io": _check_lease,
    f"rolebindings.{_RBAC}": _check_binding,
    f"clusterrolebindings.{_RBAC}": _check_binding,
    _CRDS: crd_causes,
}

_UPDATE_RULES: dict[str, Callable[[Object, Object], list[Cause]]] = {
    "pods": check_pod_update,
    "persistentvolumes": volume_update,
    "persistentvolumeclaims": claim_update,
    "services": service_update,
    "resourcequotas": quota_update,
    "runtimeclasses.node.k8s.io": runtime_class_update,
    "priorityclasses.scheduling.k8s.io": priority_class_update,
    "endpointslices.discovery.k8s.io": endpoint_slice_update,
    REQUESTS: request_update,
    "configmaps": _content_update,
    "secrets": _content_update,
    f"rolebindings.{_RBAC}": _binding_update,
    f"clusterrolebindings.{_RBAC}": _binding_update,
    _CRDS: _crd_update,
}
