"""Twins over real MQTT and a real store: what a device, a local program and the cloud see of each other."""

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager

import pytest

from edgecore.devicetwin.twins import DeviceTwin
from edgecore.eventbus.bus import EventBus
from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit
from synccore.messages import Lane
from tests.fakes.devices import LAMP_KEY, MODEL, lamp, tombstone, upsert
from tests.fakes.mqtt import LeafDevice, broker, flood, free_port, report, settings_for
from tests.fakes.tcp_proxy import TcpProxy

pytestmark = pytest.mark.timeout(20)
ID = "default/lamp-01"


@pytest.fixture(params=["mosquitto", "embedded"])
def kind(request):
    return request.param


@asynccontextmanager
async def agent(path, settings):
    """Run store, bus and twins, as edgecore does."""
    async with (
        MetaStore(path) as store,
        EventBus(settings, "edge-1") as bus,
        DeviceTwin(store, bus, "edge-1") as twins,
    ):
        tasks = [asyncio.create_task(part.run()) for part in (bus, twins)]
        try:
            while not bus.connected:
                await asyncio.sleep(0.01)
            yield store
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


@asynccontextmanager
async def site(kind, tmp_path, *documents):
    """Run a broker, an agent that holds `documents`, and a leaf device."""
    port = free_port()
    async with (
        broker(kind, port, tmp_path) as settings,
        agent(tmp_path / "edge.db", settings) as store,
        LeafDevice(port, ID) as device,
    ):
        await store.commit(Commit(deltas=[upsert(document) for document in documents]))
        if documents:
            await device.told("membership/updated")
        yield store, device


async def reported(store):
    """Return what waits for the cloud, by property."""
    rows = await store.unsent(Lane.TWINS, 0, 100, 1 << 20)
    return json.loads(rows[-1].report.body)["status"] if rows else None


async def test_a_desired_value_reaches_the_device_and_its_answer_reaches_the_cloud(kind, tmp_path):
    async with site(kind, tmp_path) as (store, device):
        await store.commit(Commit(deltas=[upsert(MODEL), upsert(lamp(brightness="40"))]))
        delta = await device.told("twin/update/delta")
        assert delta["delta"] == {"brightness": "40"}
        result = await device.ask("twin/update", report(brightness="40"))
        assert result["event_id"] == "e-1"
        assert result["twin"]["brightness"]["actual"]["value"] == "40"
        status = await reported(store)
        (twin,) = status["twins"]
        assert twin["reported"]["value"] == twin["observedDesired"]["value"] == "40"
        assert twin["reported"]["metadata"]["type"] == "int"


async def test_a_value_out_of_range_is_refused_by_name_and_changes_nothing(kind, tmp_path):
    async with site(kind, tmp_path, MODEL, lamp()) as (store, device):
        result = await device.ask("twin/update", report(brightness="101", power="true"))
        assert result["code"] == 400
        assert "default/lamp-01" in result["reason"]
        assert "'brightness'" in result["reason"]
        assert "'101' is more than the maximum of 100" in result["reason"]
        assert await reported(store) is None


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"{", id="cut"),
        pytest.param(b"\xff\xfe", id="not-utf8"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'{"twin": {"power": {"actual": {"value": 1}}}}', id="number"),
        pytest.param(b"{}", id="no-twin"),
        pytest.param(b'{"x":' * 50_000, id="deep"),
        pytest.param(b" " * (300 << 10), id="large"),
        pytest.param(b"", id="empty"),
    ],
)
async def test_a_malformed_update_is_answered_with_400(kind, tmp_path, payload):
    async with site(kind, tmp_path, MODEL, lamp()) as (_, device):
        assert (await device.ask("twin/update", payload))["code"] == 400
        assert "code" not in await device.ask("twin/update", report(power="true"))


async def test_a_device_without_its_model_waits_and_converges_when_it_appears(kind, tmp_path):
    async with site(kind, tmp_path, lamp(brightness="7")) as (store, device):
        result = await device.ask("twin/update", report(brightness="7"))
        assert (result["code"], "default/lamp:" in result["reason"]) == (404, True)
        await store.commit(Commit(deltas=[upsert(MODEL)]))
        assert (await device.told("twin/update/delta"))["delta"] == {"brightness": "7"}


async def test_an_unknown_device_is_answered_with_404(kind, tmp_path):
    async with site(kind, tmp_path) as (_, device):
        for tail, body in (("twin/get", {}), ("state/update", {"state": "online"})):
            assert (await device.ask(tail, body))["code"] == 404


async def test_a_device_asks_for_its_twin_and_says_its_state(kind, tmp_path):
    async with site(kind, tmp_path, MODEL, lamp(power="true")) as (store, device):
        result = await device.ask("twin/get", {"event_id": "g"})
        assert result["twin"]["power"]["expected"]["value"] == "true"
        assert result["twin"]["power"]["metadata"] == {"type": "boolean"}
        state = await device.ask("state/update", {"event_id": "s", "state": "Online"})
        assert state["device"]["state"] == "online"
        assert state["device"]["lastOnlineTime"].endswith("Z")
        assert (await reported(store))["state"] == "online"
        assert (await device.ask("state/update", {"state": "merry"}))["code"] == 400
        members = await device.ask("membership/get", {"event_id": "m"})
        (member,) = members["devices"]
        assert (member["id"], member["state"]) == (ID, "online")
        assert member["description"] == "demo-lamp"


async def test_a_document_tells_what_changed(kind, tmp_path):
    async with site(kind, tmp_path, MODEL, lamp()) as (_, device):
        await device.ask("twin/update", report(brightness="1"))
        document = await device.told("twin/update/document")
        assert document["twin"]["brightness"]["last"] is None
        assert document["twin"]["brightness"]["current"]["actual"]["value"] == "1"
        assert document["twin"]["brightness"]["current"]["actual_version"]["edge"] == 1


async def test_a_local_program_sets_a_value_until_the_cloud_changes_its_mind(kind, tmp_path):
    async with site(kind, tmp_path, MODEL, lamp(brightness="40")) as (store, device):
        wish = {"twin": {"brightness": {"expected": {"value": "50"}}}}
        await device.ask("twin/update", wish)
        assert (await device.told("twin/update/delta"))["delta"] == {"brightness": "50"}
        await store.commit(Commit(deltas=[upsert(lamp(brightness="60"), version=2)]))
        assert (await device.told("twin/update/delta"))["delta"] == {"brightness": "60"}


async def test_a_device_that_is_removed_is_announced_and_forgotten(kind, tmp_path):
    async with site(kind, tmp_path, MODEL, lamp(power="true")) as (store, device):
        await store.commit(Commit(deltas=[tombstone(LAMP_KEY)]))
        assert (await device.told("membership/updated"))["removed_devices"] == [{"id": ID}]
        assert await store.local("devicetwin") == {}
        assert (await device.ask("twin/get", {}))["code"] == 404


async def test_twins_survive_a_restart_and_what_is_unsynced_is_said_again(kind, tmp_path):
    port, path = free_port(), tmp_path / "edge.db"
    async with broker(kind, port, tmp_path) as settings, LeafDevice(port, ID) as device:
        async with agent(path, settings) as store:
            deltas = [upsert(MODEL), upsert(lamp(brightness="40", power="true"))]
            await store.commit(Commit(deltas=deltas))
            await device.told("twin/update/delta")
            await device.ask("twin/update", report(power="true"))
        async with agent(path, settings):
            assert (await device.told("twin/update/delta"))["delta"] == {"brightness": "40"}
            twin = (await device.ask("twin/get", {}))["twin"]
            assert twin["power"]["actual"]["value"] == "true"


async def test_a_desired_value_that_came_while_the_broker_was_away_reaches_the_device(
    kind, tmp_path
):
    port, path = free_port(), tmp_path / "edge.db"
    async with (
        broker(kind, port, tmp_path),
        TcpProxy("127.0.0.1", port) as proxy,
        agent(path, settings_for(kind, proxy.port)) as store,
        LeafDevice(port, ID) as device,
    ):
        await store.commit(Commit(deltas=[upsert(MODEL), upsert(lamp())]))
        await device.told("membership/updated")
        await proxy.cut()
        await store.commit(Commit(deltas=[upsert(lamp(brightness="9"), version=2)]))
        await until_stored(store, b'"9"')
        await proxy.heal()
        assert (await device.told("twin/update/delta"))["delta"] == {"brightness": "9"}


async def test_what_a_device_said_while_the_agent_was_away_is_not_lost(tmp_path):
    port, path = free_port(), tmp_path / "edge.db"
    async with broker("mosquitto", port, tmp_path) as settings, LeafDevice(port, ID) as device:
        async with agent(path, settings) as store:
            await store.commit(Commit(deltas=[upsert(MODEL), upsert(lamp())]))
            await device.told("membership/updated")
        await device.send("twin/update", report("away", brightness="3"))
        async with agent(path, settings):
            assert (await device.told("twin/update/result"))["event_id"] == "away"


async def test_a_flood_is_coalesced_into_few_commits_and_its_end_is_right(kind, tmp_path):
    count = 1000
    async with site(kind, tmp_path, MODEL, lamp()) as (store, device):
        before, started = store.transaction_count, time.monotonic()
        for number in range(count):
            await device.send("twin/update", report(str(number), brightness=str(number % 101)))
        while (await device.told("twin/update/result"))["event_id"] != str(count - 1):
            pass
        commits, took_s = store.transaction_count - before, time.monotonic() - started
        assert commits <= took_s / 0.05 + 2
        await until(store, state="online", brightness=str((count - 1) % 101))


@pytest.mark.timeout(60)
async def test_each_of_many_updates_that_come_at_once_has_an_answer_of_its_own(tmp_path):
    count = 900
    async with site("mosquitto", tmp_path, MODEL, lamp()) as (store, device):
        updates = [report(str(number), brightness=str(number % 101)) for number in range(count)]
        topic = f"{device.prefix}/twin/update"
        await flood(device.port, [(topic, json.dumps(update).encode()) for update in updates])
        answers = [await device.told("twin/update/result") for _ in range(count)]
        assert [answer["event_id"] for answer in answers] == [str(n) for n in range(count)]
        values = [answer["twin"]["brightness"]["actual"]["value"] for answer in answers]
        assert values == [str(number % 101) for number in range(count)]
        await until(store, state="online", brightness=str((count - 1) % 101))


async def test_the_demo_lamp_follows_its_twin_and_says_goodbye(kind, tmp_path):
    port, path = free_port(), tmp_path / "edge.db"
    async with broker(kind, port, tmp_path) as settings, agent(path, settings) as store:
        await store.commit(Commit(deltas=[upsert(MODEL), upsert(lamp(brightness="40"))]))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "armadillo.demo_lamp", "--interval", "0.2"),
            *("--broker", f"127.0.0.1:{port}", "--device", ID),
            stderr=asyncio.subprocess.PIPE,
        )
        await until(store, brightness="40", state="online", temperature="2")
        changed = upsert(lamp(brightness="80", power="true"), version=2)
        await store.commit(Commit(deltas=[changed]))
        await until(store, brightness="80", power="true", state="online")
        process.terminate()
        await until(store, state="offline")
        said = (await process.stderr.read()).decode()
        assert (await process.wait(), "Traceback" in said) == (0, False)


async def until_stored(store, part):
    """Wait until a stored twin contains `part`."""
    while not any(part in note for note in (await store.local("devicetwin")).values()):
        await asyncio.sleep(0.01)


async def until(store, *, state, **values):
    """Wait until the cloud would see these values; each is compared by its beginning."""
    while True:
        status = await reported(store) or {}
        twins = {
            t["propertyName"]: t.get("reported", {}).get("value", "")
            for t in status.get("twins", ())
        }
        if status.get("state") == state and all(
            twins.get(n, "").startswith(v) for n, v in values.items()
        ):
            return
        await asyncio.sleep(0.05)


async def phase_of(store, name, phase):
    """Wait until the cloud would see this phase of a property; return the whole twin."""
    while True:
        for twin in (await reported(store) or {}).get("twins", ()):
            if twin["propertyName"] == name and twin.get("phase") == phase:
                return twin
        await asyncio.sleep(0.02)


async def test_a_device_says_that_it_will_not_and_the_cloud_hears_why(kind, tmp_path):
    async with site(kind, tmp_path, MODEL, lamp(brightness="40")) as (store, device):
        await device.told("twin/update/delta")
        refusal = {"twin": {"brightness": {"refused": {"reason": "bulb is broken"}}}}
        assert "code" not in await device.ask("twin/update", refusal)
        twin = await phase_of(store, "brightness", "Rejected")
        assert (twin["reason"], twin["message"]) == ("DeviceRefused", "bulb is broken")


async def test_a_write_that_the_model_forbids_is_rejected_at_the_edge_too(kind, tmp_path):
    async with site(kind, tmp_path, MODEL, lamp(brightness="400", power="true")) as (store, device):
        assert (await device.told("twin/update/delta"))["delta"] == {"power": "true"}
        twin = await phase_of(store, "brightness", "Rejected")
        assert "'400' is more than the maximum of 100" in twin["message"]


async def test_a_write_without_an_answer_expires_and_is_taken_when_the_device_is_back(
    kind, tmp_path
):
    document = lamp(brightness="40")
    document["spec"]["properties"][1]["writeTimeoutSeconds"] = 1
    async with site(kind, tmp_path, MODEL, document) as (store, device):
        await device.ask("state/update", {"state": "offline"})
        assert (await phase_of(store, "brightness", "Expired"))["reason"] == "DeviceOffline"
        await device.ask("state/update", {"state": "online"})
        assert (await device.told("twin/update/delta"))["delta"] == {"brightness": "40"}
        await device.ask("twin/update", report(brightness="40"))
        await phase_of(store, "brightness", "Applied")


async def test_a_device_that_was_away_is_told_once_of_the_newest(kind, tmp_path):
    async with site(kind, tmp_path, MODEL, lamp()) as (store, device):
        await device.ask("state/update", {"state": "offline"})
        for value in ("1", "2", "3"):
            await store.commit(Commit(deltas=[upsert(lamp(brightness=value), int(value) + 1)]))
            await until_stored(store, f'"value":"{value}"'.encode())
        await device.send("state/update", {"state": "online"})
        assert (await device.told("twin/update/delta"))["delta"] == {"brightness": "3"}


async def test_a_silent_device_goes_offline_and_its_next_word_brings_it_back(kind, tmp_path):
    document = lamp()
    document["spec"]["presence"] = {"offlineAfterSeconds": 1}
    async with site(kind, tmp_path, MODEL, document) as (store, device):
        await device.ask("twin/update", report(power="true"))
        await until(store, state="online", power="true")
        await until(store, state="offline", power="true")
        await device.ask("twin/update", report(power="false"))
        await until(store, state="online", power="false")


async def test_a_reporting_policy_keeps_noise_out_and_the_newest_in(kind, tmp_path):
    document = lamp()
    document["spec"]["properties"][1]["reporting"] = {"deadBand": "5"}
    document["spec"]["properties"][2]["reporting"] = {"minIntervalMilliseconds": 700}
    async with site(kind, tmp_path, MODEL, document) as (store, device):
        for value in ("50", "54", "46"):
            await device.ask("twin/update", report(brightness=value))
        for value in ("20.1", "20.2", "20.3"):
            await device.ask("twin/update", report(temperature=value))
        await until(store, state="online", brightness="50", temperature="20.1")
        await until(store, state="online", brightness="50", temperature="20.3")


async def test_many_values_in_one_message_reach_twin_and_stream(kind, tmp_path):
    async with site(kind, tmp_path, MODEL, lamp()) as (store, device):
        rows = [[1_767_225_600_000 + n, n, 20 + n / 10] for n in range(100)]
        await device.send("values", {"properties": ["brightness", "temperature"], "rows": rows})
        await until(store, state="online", brightness="99", temperature="29.9")
        bad = {"event_id": "e", "properties": ["brightness"], "rows": [[1, 5], [2, 101]]}
        answer = await device.ask("values", bad)
        assert (answer["code"], answer["event_id"]) == (400, "e")
        assert "'101' is more than the maximum of 100" in answer["reason"]
        assert (await device.ask("values", b"{"))["code"] == 400
