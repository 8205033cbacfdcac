"""DeviceController against a device API: coalescing, retries, refusals, and conditions that converge."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager

import pytest

from cloudcore.devicecontroller.controller import DeviceController
from cloudcore.kube.errors import KubeConflictError, KubeUnreachableError
from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import DEVICE_MODELS, DEVICES, NODES, read_object
from cloudcore.settings import DeviceSettings
from corekit.errors import KubeApiError
from synccore.messages import Delta, ObjectKey, Op
from tests.fakes.device_api import FakeDeviceApi
from tests.fakes.devices import LAMP_KEY, MODEL, MODEL_KEY, lamp


class Cloud:
    def __init__(self, interval_s):
        self.devices, self.models, self.nodes = map(Informer, (DEVICES, DEVICE_MODELS, NODES))
        self.api = FakeDeviceApi(self.devices)
        self.controller = DeviceController(
            self.api,
            DeviceSettings(status_interval_s=interval_s),
            devices=self.devices,
            models=self.models,
            nodes=self.nodes,
        )

    def see(self, informer, kind, document):
        informer.upsert(read_object(kind, json.dumps(document).encode()))

    def see_model(self):
        self.see(self.models, "DeviceModel", MODEL)

    def see_node(self, name="edge-1"):
        self.see(self.nodes, "Node", {"metadata": {"name": name, "uid": name}})

    def synced(self):
        for informer in (self.devices, self.models, self.nodes):
            informer.mark_synced()

    def values(self):
        """Return the reported values that were written, in order."""
        written = [status["twins"] for _, status in self.api.patches if "twins" in status]
        return [twins[0]["reported"]["value"] for twins in written]

    async def reason(self, wanted):
        while True:
            held = self.api.device().get("status", {}).get("conditions", [{}])[0]
            if held.get("reason") == wanted:
                return held
            await asyncio.sleep(0.005)


@asynccontextmanager
async def cloud(interval_s=0.05, *, synced=False):
    made = Cloud(interval_s)
    if synced:
        made.synced()
    async with made.controller:
        task = asyncio.create_task(made.controller.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.wait([task])


def report(value, *, uid="u-1", extra=None, body=None):
    twins = [{"propertyName": "brightness", "reported": {"value": str(value)}}]
    status = {"twins": twins, "state": "online"} | (extra or {})
    raw = json.dumps({"status": status}).encode() if body is None else body
    return Delta(Op.UPSERT, LAMP_KEY, uid, 1, body=raw)


async def test_a_report_is_written_to_the_status_with_our_field_manager():
    async with cloud() as c:
        c.api.put(lamp())
        await c.controller.write("edge-1", report(1))
        assert c.api.device()["status"]["state"] == "online"
        assert c.api.patches[0][0].endswith(
            "/devices/lamp-01/status?fieldManager=armadillo-devicecontroller"
        )


async def test_a_hundred_reports_become_few_writes_and_the_newest_wins():
    async with cloud() as c:
        c.api.put(lamp())
        await asyncio.gather(*(c.controller.write("edge-1", report(n)) for n in range(100)))
        assert c.values() == ["99"]
        started = asyncio.get_running_loop().time()
        await asyncio.gather(*(c.controller.write("edge-1", report(n)) for n in range(7)))
        assert c.values() == ["99", "6"]
        assert asyncio.get_running_loop().time() - started >= 0.04


async def test_an_api_that_is_down_is_retried_with_what_is_newest_by_then(caplog):
    async with cloud() as c:
        c.api.put(lamp())
        c.api.faults.append(KubeUnreachableError(0, "Down", "no answer"))
        first = asyncio.create_task(c.controller.write("edge-1", report(1)))
        await asyncio.sleep(0.01)
        await c.controller.write("edge-1", report(2))
        await first
        assert c.values() == ["2"]
    assert [r.levelname for r in caplog.records if "cannot be written" in r.message] == ["WARNING"]


@pytest.mark.parametrize(
    ("node", "delta", "said"),
    [
        ("edge-1", report(1, uid="u-old"), "is of uid u-old"),
        ("edge-2", report(1), "comes from node edge-2, and the device is on edge-1"),
        ("edge-1", report(1, body=b"{"), "is not a device report"),
        ("edge-1", report(1, body=b'{"status":{"twins":[{}]}}'), "is not a device report"),
        ("edge-1", report(1)._replace(key=ObjectKey("Device", "default", "gone")), "404"),
        ("edge-1", report(1)._replace(key=ObjectKey("Device", "../x", "y")), "not a possible"),
    ],
    ids=["uid", "node", "cut", "shape", "gone", "path"],
)
async def test_a_report_that_can_never_be_written_is_dropped_and_said(node, delta, said, caplog):
    caplog.set_level(logging.INFO)
    async with cloud() as c:
        c.api.put(lamp())
        await c.controller.write(node, delta)
        assert c.api.patches == []
    assert any(said in r.getMessage() for r in caplog.records)


async def test_what_the_api_calls_invalid_is_dropped():
    async with cloud() as c:
        c.api.put(lamp())
        c.api.faults.append(KubeApiError(422, "Invalid", "no"))
        await c.controller.write("edge-1", report(1))
        assert c.api.patches == []


async def test_a_cache_behind_the_node_is_not_believed():
    async with cloud() as c:
        c.api.put(lamp(uid="u-2"), seen=False)
        await c.controller.write("edge-1", report(3, uid="u-2"))
        assert c.values() == ["3"]


async def test_a_conflict_is_looked_at_again():
    async with cloud() as c:
        c.api.put(lamp())
        c.api.faults.append(KubeConflictError(409, "Conflict", "x"))
        await c.controller.write("edge-1", report(4))
        assert c.values() == ["4"]


async def test_a_node_cannot_write_conditions():
    async with cloud() as c:
        c.api.put(lamp())
        await c.controller.write("edge-1", report(1, extra={"conditions": [], "x": 1}))
        assert set(c.api.patches[0][1]) == {"twins", "state"}


async def test_a_device_converges_as_its_model_and_its_node_appear_and_go():
    async with cloud(synced=True) as c:
        c.api.put(lamp(brightness="1"))
        assert (await c.reason("ModelNotFound"))["status"] == "False"
        c.see_model()
        await c.reason("NodeNotFound")
        c.see_node()
        assert (await c.reason("Accepted"))["status"] == "True"
        c.models.delete(MODEL_KEY)
        await c.reason("ModelNotFound")


async def test_nothing_is_judged_before_every_cache_is_complete():
    async with cloud() as c:
        c.api.put(lamp())
        await asyncio.sleep(0.05)
        assert c.api.patches == []
        c.see_model()
        c.see_node()
        c.synced()
        await c.reason("Accepted")
        assert len(c.api.patches) == 1


async def test_a_condition_is_written_again_after_the_api_was_down():
    async with cloud(synced=True) as c:
        c.api.faults.append(KubeUnreachableError(503, "Down", "x"))
        c.see_model()
        c.see_node()
        c.api.put(lamp())
        await c.reason("Accepted")
