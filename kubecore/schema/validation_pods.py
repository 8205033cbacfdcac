"""Rules of pods beyond types, with the API server's words."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from kubecore.schema.validation_pod_network import check_names
from kubecore.schema.validation_sysctls import check_sysctls
from kubecore.values.invalid import (
    Cause,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
)
from kubecore.values.names import check_labels, label_problem, subdomain_problem
from kubecore.values.quantities import parse_quantity

Object = dict[str, Any]
MAX_PORT = 65535
_RESTART = ["Always", "Never", "OnFailure"]
_DNS = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]
_PULL = ["Always", "IfNotPresent", "Never"]
_MESSAGE = ["FallbackToLogsOnError", "File"]
_PROTOCOLS = ["SCTP", "TCP", "UDP"]
_EFFECTS = ["NoExecute", "NoSchedule", "PreferNoSchedule"]
_KINDS = ("initContainers", "containers")
_UPDATE_RULE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def check_pod(pod: Object) -> list[Cause]:
    """Return what is wrong with a decoded and defaulted pod."""
    spec = pod["spec"]
    volumes = [v.get("name", "") for v in spec.get("volumes") or []]
    causes = _check_volumes(spec)
    if not spec.get("containers"):
        causes.append(required("spec.containers"))
    seen: set[str] = set()
    for kind in _KINDS:
        for index, container in enumerate(spec.get(kind) or []):
            where = f"spec.{kind}[{index}]"
            causes += _check_container(container, where, set(volumes))
            name = container.get("name", "")
            if name in seen:
                causes.append(duplicate(f"{where}.name", name))
            seen.add(name)
    for index, container in enumerate(spec.get("ephemeralContainers") or []):
        causes += _check_container(container, f"spec.ephemeralContainers[{index}]", set(volumes))
    return causes + _check_spec(spec)


def _check_spec(spec: Object) -> list[Cause]:
    causes = _one_of("spec.restartPolicy", spec["restartPolicy"], _RESTART)
    causes += _one_of("spec.dnsPolicy", spec["dnsPolicy"], _DNS)
    if spec["terminationGracePeriodSeconds"] < 0:
        value = spec["terminationGracePeriodSeconds"]
        rule = "must be greater than or equal to 0"
        causes.append(invalid("spec.terminationGracePeriodSeconds", value, rule))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline < 1 << 31:
        rule = "must be between 1 and 2147483647, inclusive"
        causes.append(invalid("spec.activeDeadlineSeconds", deadline, rule))
    causes += check_labels(spec.get("nodeSelector") or {}, "spec.nodeSelector")
    causes += _names(spec)
    causes += check_names(spec)
    causes += check_sysctls(spec)
    if spec.get("hostPID") and spec.get("shareProcessNamespace"):
        rule = "ShareProcessNamespace and HostPID cannot both be enabled"
        causes.append(invalid("spec.shareProcessNamespace", True, rule))
    for index, toleration in enumerate(spec.get("tolerations") or []):
        causes += _check_toleration(toleration, f"spec.tolerations[{index}]")
    return causes


def _names(spec: Object) -> list[Cause]:
    rules: dict[str, Callable[[str], str | None]] = {
        "nodeName": subdomain_problem,
        "serviceAccountName": subdomain_problem,
        "hostname": label_problem,
        "subdomain": label_problem,
    }
    return [
        invalid(f"spec.{key}", spec[key], problem)
        for key, rule in rules.items()
        if spec.get(key) and (problem := rule(spec[key]))
    ]


def _check_container(container: Object, where: str, volumes: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    name, image = container.get("name", ""), container.get("image", "")
    if name and (problem := label_problem(name)):
        causes.append(invalid(f"{where}.name", name, problem))
    if not image:
        causes.append(required(f"{where}.image"))
    elif image.strip() != image:
        causes.append(
            invalid(f"{where}.image", image, "must not have leading or trailing whitespace")
        )
    causes += _one_of(f"{where}.imagePullPolicy", container["imagePullPolicy"], _PULL)
    policy = container["terminationMessagePolicy"]
    causes += _one_of(f"{where}.terminationMessagePolicy", policy, _MESSAGE)
    causes += _check_ports(container, where)
    causes += _check_environment(container, where)
    causes += _check_mounts(container, where, volumes)
    security = container.get("securityContext") or {}
    if security.get("privileged") and security.get("allowPrivilegeEscalation") is False:
        rule = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        causes.append(invalid(f"{where}.securityContext", security, rule))
    causes += _check_resources(container.get("resources") or {}, f"{where}.resources")
    return causes


def _check_ports(container: Object, where: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, port in enumerate(container.get("ports") or []):
        field = f"{where}.ports[{index}]"
        for key in ("containerPort", "hostPort"):
            number = port.get(key, 1 if key == "hostPort" else 0)
            if (number and not 1 <= number <= MAX_PORT) or (key == "containerPort" and number == 0):
                rule = f"must be between 1 and {MAX_PORT}, inclusive"
                causes.append(invalid(f"{field}.{key}", number, rule))
        causes += _one_of(f"{field}.protocol", port["protocol"], _PROTOCOLS)
    return causes


def _check_environment(container: Object, where: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, variable in enumerate(container.get("env") or []):
        field, name = f"{where}.env[{index}]", variable.get("name", "")
        if name and ("=" in name or not name.isprintable() or not name.isascii()):
            rule = (
                "a valid environment variable name must consist only of printable ASCII characters "
                "other than '='"
            )
            causes.append(invalid(f"{field}.name", name, rule))
        source = variable.get("valueFrom")
        if source is not None and variable.get("value"):
            rule = "may not be specified when `value` is not empty"
            causes.append(invalid(f"{field}.valueFrom", "", rule))
        elif source is not None and len(source) != 1:
            rule = "may not have more than one field specified at a time"
            if not source:
                rule = (
                    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or "
                    "`secretKeyRef`"
                )
            causes.append(invalid(f"{field}.valueFrom", "", rule))
    return causes


def _check_mounts(container: Object, where: str, volumes: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or []):
        field, name, path = (
            f"{where}.volumeMounts[{index}]",
            mount.get("name"),
            mount.get("mountPath"),
        )
        if name and name not in volumes:
            causes.append(not_found(f"{field}.name", name))
        if path and path in paths:
            causes.append(invalid(f"{field}.mountPath", path, "must be unique"))
        paths.add(path or "")
        privileged = (container.get("securityContext") or {}).get("privileged")
        if mount.get("mountPropagation") == "Bidirectional" and not privileged:
            rule = "Bidirectional mount propagation is available only to privileged containers"
            causes.append(forbidden(f"{field}.mountPropagation", rule))
        sub_path = mount.get("subPath", "")
        if sub_path.startswith("/"):
            causes.append(invalid(f"{field}.subPath", sub_path, "must be a relative path"))
        elif ".." in sub_path.split("/"):
            causes.append(invalid(f"{field}.subPath", sub_path, "must not contain '..'"))
    return causes


def _check_resources(resources: Object, where: str) -> list[Cause]:
    causes: list[Cause] = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, amounts in (("limits", limits), ("requests", requests)):
        causes += [
            invalid(f"{where}.{kind}[{name}]", text, "must be greater than or equal to 0")
            for name, text in amounts.items()
            if parse_quantity(text) < 0
        ]
    for name, text in requests.items():
        limit = limits.get(name)
        if limit is not None and parse_quantity(text) > parse_quantity(limit):
            rule = f"must be less than or equal to {name} limit of {limit}"
            causes.append(invalid(f"{where}.requests", text, rule))
    return causes


def _check_volumes(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or []):
        field, name = f"spec.volumes[{index}]", volume.get("name", "")
        if name in seen:
            causes.append(duplicate(f"{field}.name", name))
        elif name and (problem := label_problem(name)):
            causes.append(invalid(f"{field}.name", name, problem))
        seen.add(name)
        sources = [key for key in volume if key != "name"]
        causes += [
            forbidden(f"{field}.{extra}", "may not specify more than 1 volume type")
            for extra in sources[1:]
        ]
        for kind, key in (("configMap", "name"), ("secret", "secretName"), ("hostPath", "path")):
            if kind in volume and not volume[kind].get(key):
                causes.append(required(f"{field}.{kind}.{key}"))
        host_path = (volume.get("hostPath") or {}).get("path", "")
        if ".." in host_path.split("/"):
            causes.append(invalid(f"{field}.hostPath.path", host_path, "must not contain '..'"))
    return causes


def _check_toleration(toleration: Object, field: str) -> list[Cause]:
    operator, effect = toleration.get("operator", "Equal"), toleration.get("effect", "")
    causes = _one_of(f"{field}.operator", operator, ["Equal", "Exists"])
    if not toleration.get("key") and operator == "Equal":
        rule = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        causes.append(invalid(f"{field}.operator", toleration.get("operator", ""), rule))
    if operator == "Exists" and toleration.get("value"):
        rule = "value must be empty when `operator` is 'Exists'"
        causes.append(invalid(f"{field}.operator", operator, rule))
    if effect:
        causes += _one_of(f"{field}.effect", effect, _EFFECTS)
    if "tolerationSeconds" in toleration and effect != "NoExecute":
        rule = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        causes.append(invalid(f"{field}.effect", effect, rule))
    return causes


def _one_of(field: str, value: str, supported: list[str]) -> list[Cause]:
    return [] if value in supported else [not_supported(field, value, supported)]


def check_pod_update(pod: Object, old: Object) -> list[Cause]:
    """Return what an update changes that only a new pod may have."""
    new_spec, old_spec = pod["spec"], old["spec"]
    if new_spec == old_spec:
        return []
    for kind in _KINDS:
        if len(new_spec.get(kind) or []) != len(old_spec.get(kind) or []):
            return [forbidden(f"spec.{kind}", "pod updates may not add or remove containers")]
    kept = [_identity(toleration) for toleration in new_spec.get("tolerations") or []]
    if any(_identity(toleration) not in kept for toleration in old_spec.get("tolerations") or []):
        return [
            forbidden(
                "spec.tolerations",
                "existing toleration can not be modified except its tolerationSeconds",
            )
        ]
    return _deadline_update(new_spec, old_spec) or _rest_update(new_spec, old_spec)


def _rest_update(new_spec: Object, old_spec: Object) -> list[Cause]:
    """Refuse what differs beside the fields that may."""
    allowed = copy.deepcopy(new_spec)
    for kind in _KINDS:
        for mine, theirs in zip(allowed.get(kind) or [], old_spec.get(kind) or [], strict=True):
            mine["image"] = theirs.get("image")
    free = ["activeDeadlineSeconds", "tolerations"]
    if (
        old_spec["terminationGracePeriodSeconds"]
        < 0
        < new_spec["terminationGracePeriodSeconds"]
        < 2
    ):
        free.append("terminationGracePeriodSeconds")
    for key in free:
        allowed.pop(key, None)
        if key in old_spec:
            allowed[key] = old_spec[key]
    return [] if allowed == old_spec else [forbidden("spec", _UPDATE_RULE)]


def _identity(toleration: Object) -> Object:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}


def _deadline_update(new_spec: Object, old_spec: Object) -> list[Cause]:
    """A deadline may come nearer, not go."""
    field, before = "spec.activeDeadlineSeconds", old_spec.get("activeDeadlineSeconds")
    if before is None:
        return []
    after = new_spec.get("activeDeadlineSeconds")
    if after is None:
        return [invalid(field, after, "must not update from a positive integer to nil value")]
    if after > before:
        return [invalid(field, after, "must be less than or equal to previous value")]
    return []
