"""A service from its address to an answer of its pod, through the real kubectl and the node's one connection."""

from __future__ import annotations

import pytest

from tests.e2e.cluster import pod, wait_until

BODY = '"$KUBERNETES_SERVICE_HOST $FRONT_SERVICE_HOST"'
HEAD = r"HTTP/1.1 200 OK\r\nContent-Length: ${#body}\r\n\r\n"
SERVE = f'body={BODY}; trap "exit 0" TERM; '
SERVE += f'while true; do printf "{HEAD}$body" | nc -l -p 8080 >/dev/null; done'


@pytest.mark.timeout(120)
def test_a_service_is_known_to_its_pod_and_reached_by_proxy(kubectl, runtime):
    if runtime == "process":
        pytest.skip("plain processes have no ports of their own")
    port = {"name": "http", "port": 80, "targetPort": "web"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "front"},
        "spec": {"selector": {"app": "front"}, "ports": [port]},
    }
    made = pod("front", SERVE, container={"ports": [{"name": "web", "containerPort": 8080}]})
    made["metadata"]["labels"] = {"app": "front"}
    kubectl.apply(service)
    stored = kubectl.get("service", "front")
    address, namespace = stored["spec"]["clusterIP"], stored["metadata"]["namespace"]
    kubectl.apply(made)
    path = f"/api/v1/namespaces/{namespace}/services/front:http/proxy/"

    def answer():
        return kubectl.run("get", "--raw", path).stdout

    try:
        # Pods and services are watched apart, so the pod may be there first and not have been told.
        shown = wait_until("the pod answers", answer, 90)
        assert shown.split()[0] == "10.96.0.1"
        assert shown.split()[1:] in ([], [address])
        subset = kubectl.get("endpoints", "front")["subsets"][0]
        assert subset["addresses"][0]["targetRef"]["name"] == "front"
        assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
        # Deleted and made again it gets another address, or the same; nobody else has it meanwhile.
        kubectl.delete("service", "front")
        wait_until("its endpoints go", lambda: kubectl.get("endpoints", "front") is None)
    finally:
        kubectl.delete("pod", "front")
