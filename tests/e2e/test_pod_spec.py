"""Fields of a pod's spec through the real kubectl: what the container sees, and what a refusal looks like."""

from __future__ import annotations

import pytest

from tests.e2e.cluster import container_log, pod, wait_until


@pytest.fixture
def applied(kubectl):
    """Apply objects; they are deleted with the test."""
    made = []

    def apply(*objects):
        made.extend(objects)
        kubectl.apply(*objects)

    yield apply
    for obj in reversed(made):
        kubectl.delete(obj["kind"].lower(), obj["metadata"]["name"])


def said(up, kubectl, name):
    """The lines that a pod has written until it succeeded."""
    wait_until(f"{name} succeeds", lambda: kubectl.pod_phase(name) == "Succeeded", 60)
    lines = container_log(up.node_logs, kubectl.get("pod", name)).splitlines()
    return [line.split(" ", 3)[3] for line in lines]


def test_a_pod_is_told_of_the_services_of_its_namespace(up, kubectl, applied):
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "back-end"},
        "spec": {"clusterIP": "10.96.0.42", "ports": [{"name": "http", "port": 8080}]},
    }
    # Pods and services are watched apart, so the pod may be there first; then it is started again.
    script = '[ "$URL" = "http://10.96.0.42/" ] && echo "$BACK_END_SERVICE_HOST:$BACK_END_SERVICE_PORT_HTTP $URL"'
    env = [{"name": "URL", "value": "http://$(BACK_END_SERVICE_HOST)/"}]
    applied(service)
    applied(pod("told", script, restart="OnFailure", container={"env": env}))
    assert said(up, kubectl, "told") == ["10.96.0.42:8080 http://10.96.0.42/"]


def test_users_groups_and_rights_are_those_of_the_spec(up, kubectl, applied):
    context = {"runAsUser": 1234, "runAsGroup": 2345, "fsGroup": 3456, "runAsNonRoot": True}
    applied(pod("who", "id -u; id -g; id -G", spec={"securityContext": context}))
    assert said(up, kubectl, "who") == ["1234", "2345", "2345 3456"]


def test_a_forbidden_sysctl_shows_in_get_pods_and_in_an_event(kubectl, applied):
    sysctls = {"sysctls": [{"name": "kernel.msgmax", "value": "9000"}]}
    applied(pod("unsafe", "true", spec={"securityContext": sysctls}))
    wait_until("it is rejected", lambda: kubectl.pod_phase("unsafe") == "Failed", 60)
    assert kubectl("get", "pod", "unsafe", "--no-headers").split()[2] == "SysctlForbidden"
    status = kubectl.get("pod", "unsafe")["status"]
    message = 'forbidden sysctl: "kernel.msgmax" not allowlisted'
    assert status["message"] == f"Pod was rejected: {message}"
    wait_until(
        "its Event is there",
        lambda: message in kubectl("describe", "pod", "unsafe").split("Events:")[1],
    )


def test_root_that_must_not_be_shows_in_get_pods(kubectl, applied):
    applied(pod("root", "true", container={"securityContext": {"runAsNonRoot": True}}))

    def status():
        return kubectl("get", "pod", "root", "--no-headers").split()[2]

    wait_until("it waits", lambda: status() == "CreateContainerConfigError", 60)
    waiting = kubectl.container("root")["state"]["waiting"]
    assert waiting["message"].startswith("container has runAsNonRoot and image will run as root")
