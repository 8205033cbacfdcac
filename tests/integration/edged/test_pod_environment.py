"""Environment, command line and paths: what a container itself sees, on a real containerd."""

from __future__ import annotations

import pytest

from tests.fakes.pods import pod_object
from tests.integration.edged.onenode import PATIENCE_S, log, shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(90)]


async def test_every_way_to_fill_a_variable_reaches_the_process(node):
    def field(name, path):
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    def resource(name, resource, divisor="1"):
        ref = {"resource": resource, "divisor": divisor}
        return {"name": name, "valueFrom": {"resourceFieldRef": ref}}

    env = [
        field("NAME", "metadata.name"),
        field("LABEL", "metadata.labels['app']"),
        field("NOTE", "metadata.annotations['team/owner']"),
        field("NODE", "spec.nodeName"),
        field("ACCOUNT", "spec.serviceAccountName"),
        field("HOST_IP", "status.hostIP"),
        field("POD_IP", "status.podIP"),
        resource("CPU", "requests.cpu", "1m"),
        resource("MEMORY", "limits.memory", "1Mi"),
        resource("ALL_CPUS", "limits.cpu"),
        {"name": "JOINED", "value": "$(NAME)/$(LABEL)-$$(NAME)-$(NOPE)"},
    ]
    said = await node.said(
        "for v in NAME LABEL NOTE NODE ACCOUNT HOST_IP CPU MEMORY ALL_CPUS JOINED; do env | grep ^$v= | cut -d= -f2-; done; "
        "[ $POD_IP = $(hostname -i) ] && echo own address; echo $0 $1",
        metadata={"labels": {"app": "shop"}, "annotations": {"team/owner": "blue"}},
        serviceAccountName="clerk",
        app={
            "env": env,
            "args": ["argument-$(CPU)", "$$(CPU)"],
            "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi", "cpu": "1"}},
        },
    )
    assert said == [
        *("web", "shop", "blue", "edge-1", "clerk", "192.0.2.7"),
        *("250", "64", "1", "web/shop-$(NAME)-$(NOPE)", "own address", "argument-250 $(CPU)"),
    ]


async def test_services_of_the_namespace_are_variables_from_the_nodes_own_records(node):
    def service(name, namespace, address, *ports):
        meta = {"name": name, "namespace": namespace, "uid": f"u-{namespace}-{name}"}
        return {"metadata": meta, "spec": {"clusterIP": address, "ports": list(ports)}}

    async with node.with_settings() as edge:
        await edge.put("Service", service("kubernetes", "default", "10.96.0.1", {"port": 443}))
        await edge.put(
            "Service", service("my-db", "default", "10.96.0.7", {"port": 5432, "name": "sql"})
        )
        await edge.put("Service", service("far", "other", "10.96.0.8", {"port": 1}))
        linked = shell("env | grep -E 'SERVICE|_PORT' | sort")
        await edge.put("Pod", pod_object(containers=[linked], restartPolicy="Never"))
        await edge.until(lambda: edge.phase() == "Succeeded", PATIENCE_S)
        said = log(edge)
    assert [line for line in said if line.startswith("MY_DB_S")] == [
        "MY_DB_SERVICE_HOST=10.96.0.7",
        "MY_DB_SERVICE_PORT=5432",
        "MY_DB_SERVICE_PORT_SQL=5432",
    ]
    assert "KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1" in said
    assert "FAR" not in "".join(said)


async def test_an_environment_that_the_kernel_would_not_take_is_refused_with_one_reason(node):
    env = [{"name": f"V{n}", "value": "x" * 100_000} for n in range(25)]
    async with node.with_settings() as edge:
        await edge.put("Pod", pod_object(containers=[shell("true", env=env)]))
        waiting = await edge.until(
            lambda: edge.waiting().get("message") and edge.waiting(), PATIENCE_S
        )
    assert waiting == {
        "reason": "CreateContainerConfigError",
        "message": "environment is over the limit of 1966080 bytes",
    }


async def test_thousands_of_variables_just_below_the_limit_start(node):
    env = [{"name": f"V{n}", "value": "x" * 100} for n in range(8000)]
    env += [{"name": f"BIG{n}", "value": "y" * 130_000} for n in range(6)]
    assert await node.said("echo ${#BIG5} ${#V7999}", app={"env": env}) == ["130000 100"]


HOSTILE_PATHS = [
    ("workingDir", "/proc/self/fd/8/../.."),
    ("workingDir", "../../../etc\0"),
    ("terminationMessagePath", "/proc/self/environ"),
    ("terminationMessagePath", "/"),
]


@pytest.mark.parametrize(("field", "path"), HOSTILE_PATHS)
async def test_a_hostile_path_is_refused_or_harmless_and_the_agent_goes_on(node, field, path):
    async with node.with_settings() as edge:
        await edge.put("Pod", pod_object(containers=[shell("true", **{field: path})]))
        reason = await edge.until(lambda: edge.waiting().get("message") and edge.waiting(), 60)
        assert reason["reason"] in (
            "CreateContainerConfigError",
            "CreateContainerError",
            "RunContainerError",
            "CrashLoopBackOff",
        )


async def test_a_working_directory_that_climbs_stays_within_the_container(node):
    said = await node.said(
        "pwd; ls -d /../../etc/armadillo-marker 2>&1 | grep -c No; cat /dev/termination-log | wc -c",
        app={"workingDir": "/../../../tmp"},
    )
    assert said[0].endswith("/tmp")
    assert said[1] == "1"
