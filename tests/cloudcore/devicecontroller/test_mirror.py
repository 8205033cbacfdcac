"""DeviceStatus objects: equal to the Devices' status, few writes, and mended whatever becomes of them."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from cloudcore.devicecontroller.mirror import StatusMirror, fingerprint
from cloudcore.kube.errors import KubeConflictError, KubeNotFoundError, KubeUnreachableError
from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import DEVICE_STATUSES, DEVICES, read_object
from cloudcore.settings import DeviceSettings
from synccore.messages import ObjectKey
from tests.fakes.devices import lamp
from tests.fakes.waiting import eventually

pytestmark = pytest.mark.timeout(60)
KEY = ObjectKey("DeviceStatus", "default", "lamp-01")
COLLECTION = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devicestatuses"


class MirrorApi:
    """DeviceStatus objects in memory, merge patches, faults on command; `seen`: the informer hears of them."""

    def __init__(self, mirrors):
        self.objects, self.writes, self.faults, self.seen = {}, [], [], True
        self._mirrors, self._version = mirrors, 0

    async def post(self, path, body):
        document = json.loads(body)
        assert path == f"{COLLECTION}?fieldManager=armadillo-devicecontroller"
        name = document["metadata"]["name"]
        self._begin("POST", document)
        if name in self.objects:
            raise KubeConflictError(409, "AlreadyExists", name)
        return self.put(name, document)

    async def patch(self, path, body, *, content_type=""):
        assert content_type == "application/merge-patch+json"
        name, patch = path.split("?")[0].rpartition("/")[2], json.loads(body)
        self._begin("PATCH", patch)
        if name not in self.objects:
            raise KubeNotFoundError(404, "NotFound", name)
        held = self.objects[name]
        metadata = {**held["metadata"], **patch["metadata"]}
        status = {**held.get("status", {}), **patch["status"]}
        return self.put(name, {**held, "metadata": metadata, "status": status})

    def put(self, name, document):
        self._version += 1
        document["metadata"] |= {"resourceVersion": str(self._version), "uid": f"s-{name}"}
        self.objects[name] = document
        if self.seen:
            self._mirrors.upsert(read_object("DeviceStatus", json.dumps(document).encode()))
        return b"{}"

    def _begin(self, verb, body):
        if self.faults:
            raise self.faults.pop(0)
        self.writes.append((verb, body))


class Cloud:
    def __init__(self, interval_s):
        self.devices, self.mirrors = (
            Informer(DEVICES),
            Informer(DEVICE_STATUSES, shrink=fingerprint),
        )
        self.api, self._version = MirrorApi(self.mirrors), 0
        self.component = StatusMirror(
            self.api,
            DeviceSettings(status_interval_s=interval_s),
            devices=self.devices,
            mirrors=self.mirrors,
        )

    def report(self, value, uid="u-1", **status):
        self._version += 1
        document = lamp(uid=uid)
        document["metadata"]["resourceVersion"] = str(self._version)
        twin = {"propertyName": "brightness", "reported": {"value": value}, "phase": "Applied"}
        document["status"] = {"twins": [twin], "state": "online", "conditions": []} | status
        self.devices.upsert(read_object("Device", json.dumps(document).encode()))

    def value(self):
        twins = self.api.objects.get("lamp-01", {}).get("status", {}).get("twins") or [{}]
        return twins[0].get("reported", {}).get("value")


@asynccontextmanager
async def cloud(interval_s=0.01):
    made = Cloud(interval_s)
    async with made.component:
        made.devices.mark_synced()
        made.mirrors.mark_synced()
        task = asyncio.create_task(made.component.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_a_device_has_a_status_object_that_it_owns_and_that_kubeedge_reads():
    async with cloud() as c:
        c.report("7", lastOnlineTime="2026-01-01T00:00:00Z")
        await eventually(lambda: c.value() == "7")
        made = c.api.objects["lamp-01"]
        assert (made["apiVersion"], made["kind"]) == ("devices.kubeedge.io/v1beta1", "DeviceStatus")
        assert made["metadata"]["ownerReferences"] == [
            {
                "apiVersion": "devices.kubeedge.io/v1beta1",
                "kind": "Device",
                "name": "lamp-01",
                "uid": "u-1",
                "controller": True,
            }
        ]
        assert made["status"] == {
            "twins": [{"propertyName": "brightness", "reported": {"value": "7"}}],
            "state": "online",
            "lastOnlineTime": "2026-01-01T00:00:00Z",
        }


async def test_a_device_without_a_report_has_an_empty_one():
    async with cloud() as c:
        c.devices.upsert(read_object("Device", json.dumps(lamp()).encode()))
        await eventually(lambda: "lamp-01" in c.api.objects)
        assert c.api.objects["lamp-01"]["status"]["twins"] == []


async def test_many_changes_within_the_interval_are_one_write_and_the_newest_wins():
    async with cloud(interval_s=0.5) as c:
        for number in range(100):
            c.report(str(number))
            await asyncio.sleep(0)
        await eventually(lambda: c.value() == "99")
        assert len(c.api.writes) <= 2


async def test_what_is_there_already_is_not_written_again():
    async with cloud() as c:
        c.report("7")
        await eventually(lambda: c.value() == "7")
        c.report("7", conditions=[{"type": "Accepted"}])  # nothing of it is KubeEdge's
        c.report("8")
        await eventually(lambda: c.value() == "8")
        assert [verb for verb, _ in c.api.writes] == ["POST", "PATCH"]


@pytest.mark.parametrize("fault", [KubeUnreachableError(0, "Down", "no answer")] * 1)
async def test_a_write_that_failed_is_made_again(fault):
    async with cloud() as c:
        c.api.faults.append(fault)
        c.report("7")
        await eventually(lambda: c.value() == "7")


async def test_what_somebody_else_deleted_or_changed_is_mended():
    async with cloud() as c:
        c.report("7")
        await eventually(lambda: c.value() == "7")
        other = json.loads(json.dumps(c.api.objects["lamp-01"]))
        other["status"]["twins"][0]["reported"]["value"] = "99"
        c.api.put("lamp-01", other)
        await eventually(lambda: c.value() == "7")
        del c.api.objects["lamp-01"]
        c.mirrors.delete(KEY)
        await eventually(lambda: c.value() == "7")


async def test_one_that_the_watch_has_not_told_of_is_found_all_the_same():
    async with cloud() as c:
        c.api.seen = False
        c.report("7")
        await eventually(lambda: c.value() == "7")
        c.report("8")
        await eventually(lambda: c.value() == "8")


async def test_a_device_made_anew_takes_the_object_of_the_old_one_over():
    async with cloud() as c:
        c.report("7")
        await eventually(lambda: c.value() == "7")
        c.report("8", uid="u-2")
        await eventually(lambda: c.value() == "8")
        assert c.api.objects["lamp-01"]["metadata"]["ownerReferences"][0]["uid"] == "u-2"
