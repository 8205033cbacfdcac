"""The way onto the node with real containers: who runs is never refused, whatever comes after."""

from __future__ import annotations

import pytest

from tests.fakes.pods import pod_object
from tests.integration.edged.lab import shell

pytestmark = [pytest.mark.timeout(90), pytest.mark.containerd]


def pod(name, uid, cpu="1500m", ports=()):
    app = shell(resources={"requests": {"cpu": cpu}}, ports=[dict(p) for p in ports])
    return pod_object(name, uid, containers=[app], terminationGracePeriodSeconds=0)


async def test_a_full_node_refuses_and_a_restart_of_edgecore_does_not(lab):
    port = {"containerPort": 8080, "hostPort": 18474}
    async with lab.running():
        await lab.put("Pod", pod("first", "u-1", ports=[port]))
        await lab.until(lambda: lab.phase("first") == "Running")
        await lab.put("Pod", pod("second", "u-2"))
        await lab.put("Pod", pod("third", "u-3", "100m", ports=[port]))
        await lab.until(lambda: lab.phase("second") == lab.phase("third") == "Failed")
        assert lab.status("second")["reason"] == "OutOfcpu"
        assert lab.status("third")["reason"] == "NodePorts"
    lab.allocatable = {"cpu": 1}  # the node came back with less
    async with lab.running():
        await lab.put("Pod", pod("fourth", "u-4"))
        await lab.until(lambda: lab.phase("fourth") == "Failed")
        assert lab.phase("first") == "Running"
        assert lab.container("first")["restartCount"] == 0
        for number, name in enumerate(("first", "second", "third", "fourth"), start=1):
            await lab.gone(name, f"u-{number}")
