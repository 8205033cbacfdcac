"""DeviceTwin with a store whose disk fails and a bus that is a list: order, honesty, and what is not stored."""

import asyncio
import json
from contextlib import asynccontextmanager

from edgecore.devicetwin.twins import TICK_S, DeviceTwin
from edgecore.eventbus.inbox import Arrived, Inbound, Inbox
from edgecore.records import Commit
from synccore.messages import Lane
from tests.fakes.devices import LAMP_KEY, MODEL, lamp, upsert
from tests.fakes.twin_store import FailingStore

PREFIX = "$hw/events/device/default/lamp-01"


class RecordedBus:
    """The MQTT side at the process edge: an inbox to fill, and a record of what was said, in order."""

    def __init__(self):
        self.inbox, self.said, self.full = Inbox(), [], False
        self.acknowledged = []

    async def receive(self, limit=1024, most_bytes=1 << 20) -> Arrived:
        return await self.inbox.take(limit, most_bytes)

    def publish(self, topic, payload):
        if not self.full:
            self.said.append((topic.removeprefix(PREFIX + "/"), json.loads(payload)))
        return not self.full

    def acknowledge(self, message_id):
        self.acknowledged.append(message_id)

    def arrive(self, tail, body, message_id=1):
        self.inbox.put(Inbound(f"{PREFIX}/{tail}", json.dumps(body).encode(), message_id, self))

    async def heard(self, topic):
        while True:
            for said, body in self.said:
                if said == topic:
                    return body
            await asyncio.sleep(0.005)

    def topics(self):
        return [topic for topic, _ in self.said if "membership" not in topic]


@asynccontextmanager
async def running(*documents, store=None, samples=None):
    store, bus = store or FailingStore(), RecordedBus()
    await store.commit(Commit(deltas=[upsert(document) for document in documents]))
    async with DeviceTwin(
        store, bus, "edge-1", clock=lambda: 1_700_000_000, samples=samples
    ) as twins:
        task = asyncio.create_task(twins.run())
        while b'"u-' not in (await store.local("devicetwin")).get("default/lamp-01", b""):
            await asyncio.sleep(0.005)
        try:
            yield store, bus
        finally:
            task.cancel()
            await asyncio.wait([task])


def says(event_id="e", **values):
    return {"event_id": event_id, "twin": {n: {"actual": {"value": v}} for n, v in values.items()}}


async def test_result_document_and_delta_come_in_this_order_and_after_the_commit():
    async with running(MODEL, lamp(power="true")) as (store, bus):
        await bus.heard("twin/update/delta")
        bus.said.clear()
        bus.arrive("twin/update", says(brightness="5", power="false"))
        await bus.heard("twin/update/document")
        assert bus.topics()[:2] == ["twin/update/result", "twin/update/document"]
        assert bus.acknowledged == [1]
        (report,) = store.commits[-1].reports
        assert (report.key, report.uid, report.lane) == (LAMP_KEY, "u-1", Lane.TWINS)
        assert set(store.commits[-1].local) == {("devicetwin", "default/lamp-01")}


async def test_what_could_not_be_stored_is_answered_with_500_and_not_believed():
    async with running(MODEL, lamp()) as (store, bus):
        store.failing.set()
        bus.arrive("twin/update", says("lost", brightness="5"))
        result = await bus.heard("twin/update/result")
        assert (result["code"], result["event_id"]) == (500, "lost")
        assert "disk full" in result["reason"]
        store.failing.clear()
        bus.arrive("twin/get", {})
        assert (await bus.heard("twin/get/result"))["twin"] == {}


async def test_a_desired_value_is_taken_once_the_disk_works_again():
    async with running(MODEL, lamp()) as (store, bus):
        await store.commit(Commit(deltas=[upsert(lamp(brightness="5"))]))
        store.failing.set()
        await asyncio.sleep(0.05)
        store.failing.clear()
        assert (await bus.heard("twin/update/delta"))["delta"] == {"brightness": "5"}


async def test_an_equal_report_costs_no_commit():
    async with running(MODEL, lamp()) as (store, bus):
        bus.arrive("twin/update", says(brightness="5"))
        await bus.heard("twin/update/result")
        before = len(store.commits)
        bus.arrive("twin/update", says("again", brightness="5"))
        while bus.acknowledged != [1, 1]:
            await asyncio.sleep(0.005)
        assert len(store.commits) == before


async def test_many_requests_of_one_batch_are_one_commit_and_one_document():
    async with running(MODEL, lamp()) as (store, bus):
        before = len(store.commits)
        for number in range(50):
            bus.arrive("twin/update", says(str(number), brightness=str(number)))
        document = await bus.heard("twin/update/document")
        assert len(store.commits) == before + 1
        assert bus.topics().count("twin/update/result") == 50
        change = document["twin"]["brightness"]
        assert (change["last"], change["current"]["actual"]["value"]) == (None, "49")


async def test_a_wrong_answer_to_a_delta_does_not_make_a_loop():
    async with running(MODEL, lamp(brightness="5")) as (_, bus):
        await bus.heard("twin/update/delta")
        for number in range(3):
            bus.arrive("twin/update", says(brightness=str(number)))
            await asyncio.sleep(0.06)
        assert bus.topics().count("twin/update/delta") == 1


async def test_a_delta_that_the_broker_did_not_take_is_sent_later():
    async with running(MODEL, lamp()) as (store, bus):
        bus.full = True
        await store.commit(Commit(deltas=[upsert(lamp(brightness="5"))]))
        await asyncio.sleep(0.05)
        bus.full = False
        assert (await bus.heard("twin/update/delta"))["delta"] == {"brightness": "5"}


async def test_a_device_made_anew_does_not_inherit_the_old_ones_values():
    async with running(MODEL, lamp()) as (store, bus):
        bus.arrive("twin/update", says(brightness="5"))
        await bus.heard("twin/update/result")
        await store.commit(Commit(deltas=[upsert(lamp(uid="u-2"))]))
        while not any(b'"u-2"' in note for note in (await store.local("devicetwin")).values()):
            await asyncio.sleep(0.005)
        bus.arrive("twin/get", {})
        assert (await bus.heard("twin/get/result"))["twin"] == {}


async def renewed(store, document):
    await store.commit(Commit(deltas=[upsert(document)]))
    uid = document["metadata"]["uid"].encode()
    while not any(uid in note for note in (await store.local("devicetwin")).values()):
        await asyncio.sleep(0.005)


async def test_a_device_made_anew_is_told_though_the_old_one_was_told_the_same_just_now():
    async with running(MODEL, lamp(brightness="5")) as (store, bus):
        await bus.heard("twin/update/delta")
        bus.said.clear()
        await renewed(store, lamp(uid="u-2", brightness="5"))
        assert (await bus.heard("twin/update/delta"))["delta"] == {"brightness": "5"}


async def test_a_value_that_was_held_back_is_not_taken_for_a_device_made_anew():
    def slow(uid):
        document = lamp(uid=uid)
        for prop in document["spec"]["properties"]:
            prop["reporting"] = {"minIntervalMilliseconds": 600_000}
        return document

    async with running(MODEL, slow("u-1")) as (store, bus):
        for value in ("1", "2"):  # the second one waits
            bus.arrive("twin/update", says(brightness=value))
        while bus.acknowledged != [1, 1]:
            await asyncio.sleep(0.005)
        await renewed(store, lamp(uid="u-2"))
        await asyncio.sleep(2 * TICK_S)  # held-back values are looked at
        bus.arrive("twin/get", {})
        assert (await bus.heard("twin/get/result"))["twin"] == {}


class Samples:
    """A sink of readings that keeps (device, property, time)."""

    def __init__(self):
        self.names, self.taken = [], []

    def series(self, device, prop):
        self.names.append((device, prop))
        return len(self.names) - 1

    def put(self, series, times, values):
        self.taken += [(*self.names[s], t) for s, t in zip(series, times, strict=True)]

    async def until(self, *wanted):
        while [taken[1] for taken in self.taken] != list(wanted):
            await asyncio.sleep(0.005)


async def test_a_device_of_which_no_value_is_streamed_is_seen_all_the_same():
    document, samples = lamp(), Samples()
    document["spec"]["properties"][1]["reporting"] = {"onChange": True}
    async with running(MODEL, document, samples=samples) as (_, bus):
        bus.arrive("twin/update", says(brightness="1"))
        await samples.until("brightness")
        bus.arrive("twin/update", says(brightness="1"))
        await samples.until("brightness", "")
        assert samples.taken[1] == ("default/lamp-01", "", 1_700_000_000_000)
        bus.arrive("twin/update", says(brightness="1"))  # at the same moment: said already
        bus.arrive("state/update", {"state": "ok"})
        bus.arrive("values", {"properties": ["temperature"], "rows": [[1, 20.5]]})
        await samples.until("brightness", "", "temperature")


async def test_a_table_of_old_values_says_too_that_its_device_is_heard_now():
    samples = Samples()
    async with running(MODEL, lamp(), samples=samples) as (_, bus):
        bus.arrive("values", {"properties": ["temperature"], "rows": [[1, 20.5]]})
        await samples.until("temperature", "")


async def test_a_device_that_says_it_goes_is_not_seen():
    samples = Samples()
    async with running(MODEL, lamp(), samples=samples) as (_, bus):
        bus.arrive("state/update", {"state": "offline"})
        await bus.heard("state/update/result")
        bus.arrive("state/update", {"state": "online"})
        await samples.until("")


async def test_a_device_that_does_not_decode_is_answered_with_the_field_and_harms_no_other():
    broken = lamp()
    broken["metadata"]["name"], broken["spec"]["nodeName"] = "lamp-02", 3
    async with running(MODEL, broken, lamp()) as (_, bus):
        topic = "$hw/events/device/default/lamp-02/twin/get"
        bus.inbox.put(Inbound(topic, b"{}"))
        answer = await bus.heard(f"{topic}/result")
        assert (answer["code"], "spec.nodeName" in answer["reason"]) == (404, True)
        bus.arrive("twin/get", {})
        assert "code" not in await bus.heard("twin/get/result")


async def test_a_twin_that_cannot_be_read_starts_empty():
    store = FailingStore()
    await store.commit(Commit(local={("devicetwin", "default/lamp-01"): b"\xff{"}))
    async with running(MODEL, lamp(brightness="5"), store=store) as (_, bus):
        assert (await bus.heard("twin/update/delta"))["delta"] == {"brightness": "5"}
