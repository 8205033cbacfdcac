"""Point 5: the edge keeps working with the link cut, boots from its own database, and converges afterwards."""

from __future__ import annotations

import json
import time

import pytest

from tests.e2e.cluster import pod, wait_until

pytestmark = pytest.mark.timeout(240)


def test_a_cut_link_and_a_killed_edge_lose_nothing(parts, tmp_path):
    kubectl = parts.kubectl
    marks = tmp_path / "marks"
    kubectl.apply(
        pod("keeps", "trap 'exit 0' TERM; while :; do sleep 0.3; done", restart="Always"),
        pod("ends", "sleep 12; exit 5"),
        pod("goes", "trap 'exit 0' TERM; while :; do sleep 0.3; done", restart="Always"),
    )
    for name in ("keeps", "ends", "goes"):
        wait_until(f"{name} runs", lambda n=name: kubectl.pod_phase(n) == "Running")
    wait_until("the lamp is online", lambda: kubectl.reported("lamp-01", "power") is not None)
    before = kubectl.container("keeps")
    marks.write_text(before["containerID"])

    # -- cut: the cloud notices, the edge goes on --
    parts.link.cut()
    wait_until("the node is not Ready", lambda: kubectl.node_ready("edge-1") != "True", 40)
    assert parts.running("edge-1")
    _set_lamp(kubectl, "false")
    kubectl("delete", "pod", "goes", "--wait=false")
    kubectl.apply(pod("late", "trap 'exit 0' TERM; while :; do sleep 0.3; done"))

    # -- still cut: killed, and started again from SQLite alone --
    parts.kill("edge-1")
    parts.start("edge-1")
    time.sleep(3.0)
    assert parts.running("edge-1")
    assert kubectl.node_ready("edge-1") != "True"

    # -- mended: both sides agree again --
    parts.link.mend()
    wait_until("the node is Ready", lambda: kubectl.node_ready("edge-1") == "True", 60)
    wait_until("the pod that ended says so", lambda: kubectl.pod_phase("ends") == "Failed", 40)
    assert kubectl.container("ends")["state"]["terminated"]["exitCode"] == 5
    wait_until("the deleted pod is gone", lambda: kubectl.get("pod", "goes") is None, 40)
    wait_until("the new pod runs", lambda: kubectl.pod_phase("late") == "Running", 40)
    wait_until("the lamp follows", lambda: kubectl.reported("lamp-01", "power") == "false", 40)
    after = kubectl.container("keeps")
    assert after["containerID"] == before["containerID"]
    assert after["restartCount"] == before["restartCount"]
    assert after["state"]["running"]["startedAt"] == before["state"]["running"]["startedAt"]
    kubectl.delete("pod", "keeps", "ends", "late")


def test_a_device_works_against_the_edges_broker_while_the_link_is_cut(parts):
    _set_lamp(parts.kubectl, "true")
    wait_until("the lamp is on", lambda: parts.kubectl.reported("lamp-01", "power") == "true", 40)
    parts.link.cut()
    try:
        answer = ask_twin(parts.broker, "default/lamp-01")
        assert answer["twin"]["power"]["actual"]["value"] == "true"
    finally:
        parts.link.mend()
    wait_until("Ready again", lambda: parts.kubectl.node_ready("edge-1") == "True", 60)


def ask_twin(broker, device):
    """Return the answer to twin/get, asked over MQTT as any leaf-side program would."""
    import asyncio

    import aiomqtt

    host, port = broker.split(":")
    topic = f"$hw/events/device/{device}/twin/get"

    async def ask():
        async with asyncio.timeout(10), aiomqtt.Client(host, int(port)) as client:
            await client.subscribe(topic + "/result", qos=1)
            await client.publish(topic, json.dumps({"event_id": "e2e", "timestamp": 0}), qos=1)
            async for message in client.messages:
                return json.loads(message.payload)
        raise AssertionError("the broker hung up")

    return asyncio.run(ask())


def _set_lamp(kubectl, word):
    device = kubectl.get("device", "lamp-01")
    for entry in device["spec"]["properties"]:
        if entry["name"] == "power":
            entry["desired"] = {"value": word}
    patch = json.dumps({"spec": {"properties": device["spec"]["properties"]}})
    kubectl("patch", "device", "lamp-01", "--type", "merge", "-p", patch)
