"""Defaults of pods, as `SetDefaults_Pod` and its parts fill them in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

# 0644, as files from config maps and secrets are written.
_FILE_MODE = 0o644
_PROBE: Object = {
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
_VOLUME_MODES = ("configMap", "secret", "downwardAPI", "projected")


def default_pod(pod: Object) -> None:
    """Fill in, in place, what the sender left out."""
    spec = pod.setdefault("spec", {})
    for container in containers_of(spec):
        _default_container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or []:
        _default_volume(volume)
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("securityContext", {})
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:  # the old name is kept equal to the new one
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    if "status" in pod:
        pod["status"].setdefault("qosClass", qos_class(spec))


def containers_of(spec: Object) -> Iterator[Object]:
    """Yield every container of a pod: init, main and ephemeral."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(key) or []


def _default_container(container: Object, *, host_network: bool) -> None:
    container.setdefault("imagePullPolicy", pull_policy(container.get("image", "")))
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = container.setdefault("resources", {})
    if limits := resources.get("limits"):
        resources["requests"] = {**limits, **(resources.get("requests") or {})}
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
        if host_network and not port.get("hostPort") and "containerPort" in port:
            port["hostPort"] = port["containerPort"]
    for variable in container.get("env") or []:
        field = (variable.get("valueFrom") or {}).get("fieldRef")
        if field is not None:
            field.setdefault("apiVersion", "v1")
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        if kind in container:
            probe = container[kind]
            probe.update({**_PROBE, **probe})
            _default_http(probe)
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _default_http(handler)


def _default_http(handler: Object) -> None:
    if "httpGet" in handler:
        handler["httpGet"].setdefault("path", "/")
        handler["httpGet"].setdefault("scheme", "HTTP")


def pull_policy(image: str) -> str:
    """Return when an image is pulled if the pod does not say: always where its tag may move (`latest`)."""
    name, at, _ = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    moving = not at if not colon else tag == "latest"
    return "Always" if moving else "IfNotPresent"


def _default_volume(volume: Object) -> None:
    if volume.keys() <= {"name"}:
        volume["emptyDir"] = {}
    for kind in _VOLUME_MODES:
        if kind in volume:
            volume[kind].setdefault("defaultMode", _FILE_MODE)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    projected = (volume.get("projected") or {}).get("sources") or []
    for source in [volume, *projected]:
        for item in (source.get("downwardAPI") or {}).get("items") or []:
            item.get("fieldRef", {}).setdefault("apiVersion", "v1")
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)


def qos_class(spec: Object) -> str:
    """Return Guaranteed, Burstable or BestEffort, from what the containers ask for."""
    requests: list[Object] = []
    limits: list[Object] = []
    for key in ("initContainers", "containers"):
        for container in spec.get(key) or []:
            resources = container.get("resources") or {}
            requests.append(_computing(resources.get("requests")))
            limits.append(_computing(resources.get("limits")))
    if not any(requests) and not any(limits):
        return "BestEffort"
    whole = all(limit.keys() == {"cpu", "memory"} for limit in limits)
    return "Guaranteed" if whole and requests == limits else "Burstable"


def _computing(amounts: Object | None) -> Object:
    return {k: v for k, v in (amounts or {}).items() if k in ("cpu", "memory") and v != "0"}
