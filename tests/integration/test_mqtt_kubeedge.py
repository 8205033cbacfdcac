"""Every topic and body of KubeEdge's device MQTT, member by member, on both brokers; and each code of an error."""

import json

import aiomqtt
import pytest

from edgecore.records import Commit
from synccore.messages import ObjectKey
from tests.fakes.devices import MODEL, lamp, tombstone, upsert
from tests.fakes.mqtt import report
from tests.integration.test_mqtt_twins import ID, kind, reported, site  # noqa: F401 - a fixture

pytestmark = pytest.mark.timeout(30)
COMMON = {"event_id", "timestamp"}


def is_value(value, text):
    assert set(value) == {"value", "metadata"}
    assert value["value"] == text
    assert set(value["metadata"]) == {"timestamp"}
    assert isinstance(value["metadata"]["timestamp"], int)


async def test_an_accepted_update_is_result_document_and_delta(kind, tmp_path):  # noqa: F811
    async with site(kind, tmp_path, MODEL, lamp(power="true")) as (_, device):
        await device.told("twin/update/delta")
        result = await device.ask("twin/update", report("e-9", brightness="7"))
        assert set(result) == {*COMMON, "twin"}
        assert result["event_id"] == "e-9"
        twin = result["twin"]["brightness"]
        assert set(twin) == {"actual", "optional", "metadata"}
        is_value(twin["actual"], "7")
        assert twin["metadata"] == {"type": "int"}
        document = await device.told("twin/update/document")
        assert set(document) == {*COMMON, "twin"}
        change = document["twin"]["brightness"]
        assert set(change) == {"last", "current"}
        assert change["last"] is None
        for versions in ("expected_version", "actual_version"):
            assert set(change["current"][versions]) == {"cloud", "edge"}


async def test_everything_is_published_at_qos_1_and_not_retained(kind, tmp_path):  # noqa: F811
    async with (
        site(kind, tmp_path, MODEL, lamp()) as (store, device),
        aiomqtt.Client("127.0.0.1", device.port) as other,
    ):
        await other.subscribe(f"{device.prefix}/#", qos=1)
        await store.commit(Commit(deltas=[upsert(lamp(power="true"), version=2)]))
        await device.ask("twin/update", report(brightness="7"))
        seen = {}
        while len(seen) < 3:
            message = await anext(other.messages)
            tail = message.topic.value.removeprefix(f"{device.prefix}/twin/update")
            if tail:
                seen[tail] = (message.qos, message.retain)
        assert seen == dict.fromkeys(("/result", "/document", "/delta"), (1, False))


async def test_a_delta_holds_what_differs_and_the_twins_that_expect_something(kind, tmp_path):  # noqa: F811
    async with site(kind, tmp_path, MODEL, lamp(power="true", brightness="5")) as (_, device):
        delta = await device.told("twin/update/delta")
        assert set(delta) == {*COMMON, "twin", "delta"}
        assert delta["delta"] == {"power": "true", "brightness": "5"}
        assert set(delta["twin"]) == {"power", "brightness"}
        is_value(delta["twin"]["power"]["expected"], "true")


async def test_twin_get_returns_all_twins_without_versions(kind, tmp_path):  # noqa: F811
    async with site(kind, tmp_path, MODEL, lamp(power="true")) as (_, device):
        await device.ask("twin/update", report(brightness="7"))
        result = await device.ask("twin/get", {"event_id": "g", "timestamp": 1})
        assert set(result) == {*COMMON, "twin"}
        assert set(result["twin"]) == {"power", "brightness"}
        assert all("expected_version" not in twin for twin in result["twin"].values())


@pytest.mark.parametrize("state", ["online", "OFFLINE", "ok", "Unknown", "unhealthy"])
async def test_state_update_is_answered_with_the_device(kind, tmp_path, state):  # noqa: F811
    async with site(kind, tmp_path, MODEL, lamp()) as (_, device):
        result = await device.ask("state/update", {"event_id": "s", "state": state})
        assert set(result) == {*COMMON, "device"}
        assert set(result["device"]) == {"name", "state", "lastOnlineTime"}
        assert (result["device"]["name"], result["device"]["state"]) == ("lamp-01", state.lower())
        online = state.lower() in ("online", "ok")
        assert bool(result["device"]["lastOnlineTime"]) == online


async def test_membership_is_listed_and_told(kind, tmp_path):  # noqa: F811
    async with site(kind, tmp_path, MODEL, lamp()) as (store, device):
        listed = await device.ask("membership/get", {"event_id": "m"})
        assert set(listed) == {*COMMON, "devices"}
        (member,) = listed["devices"]
        assert set(member) == {"id", "name", "description", "state", "last_online", "attributes"}
        await store.commit(Commit(deltas=[tombstone(ObjectKey("Device", "default", "lamp-01"))]))
        told = await device.told("membership/updated")
        assert set(told) == {*COMMON, "added_devices", "removed_devices"}
        assert (told["added_devices"], told["removed_devices"]) == (None, [{"id": ID}])


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (b"{", 400, "bad request body"),
        (b'{"twin":{"power":{"actual":{"value":"\xff"}}}}', 400, "bad request body"),
        ({"event_id": "x"}, 400, "`twin` is missing"),
        (report("x", power="yes"), 400, "'yes' is not a BOOLEAN"),
        (report("x", hue="1"), 400, "property 'hue'"),
        (report("x", brightness="101"), 400, "more than the maximum of 100"),
        ({"event_id": "x", "twin": {"power": {"actual": {"value": True}}}}, 400, "bad request"),
        (b'{"twin":{"power":{"actual":{"value":"' + b"x" * (1 << 20) + b'"}}}}', 400, "limit of"),
    ],
)
async def test_a_bad_request_has_code_and_reason_and_changes_nothing(
    kind, tmp_path, body, code, said  # noqa: F811
):  # fmt: skip
    async with site(kind, tmp_path, MODEL, lamp()) as (_, device):
        error = await device.ask("twin/update", body)
        assert set(error) == {*COMMON, "code", "reason"}
        assert (error["code"], said in error["reason"]) == (code, True), error["reason"]
        assert (await device.ask("twin/get", {}))["twin"] == {}


async def test_an_unknown_device_is_404(kind, tmp_path):  # noqa: F811
    async with site(kind, tmp_path) as (_, device):
        error = await device.ask("twin/update", report("x", power="true"))
        assert (error["code"], error["event_id"]) == (404, "x")
        assert "default/lamp-01: is not a device of node edge-1" in error["reason"]


async def test_strings_may_be_any_text(kind, tmp_path):  # noqa: F811
    model = {**MODEL, "spec": {"properties": [{"name": "say", "type": "STRING"}]}}
    device_object = lamp()
    device_object["spec"]["properties"] = [{"name": "say"}]
    text = '{"größe": "ü 漢 😀"} with spaces, \u2028 and "quotes"'
    async with site(kind, tmp_path, model, device_object) as (_, device):
        result = await device.ask("twin/update", report("x", say=text))
        assert result["twin"]["say"]["actual"]["value"] == text


async def test_null_deletes_a_twin_and_its_versions_go_on(kind, tmp_path):  # noqa: F811
    async with site(kind, tmp_path, MODEL, lamp()) as (store, device):
        await device.ask("twin/update", report(brightness="7", power="true"))
        await device.told("twin/update/document")
        result = await device.ask("twin/update", {"event_id": "d", "twin": {"brightness": None}})
        assert (result["event_id"], result["twin"]) == ("d", {"brightness": None})
        change = (await device.told("twin/update/document"))["twin"]["brightness"]
        assert change["last"]["actual"]["value"] == "7"
        assert change["current"] is None
        assert set((await device.ask("twin/get", {}))["twin"]) == {"power"}
        assert [twin["propertyName"] for twin in (await reported(store))["twins"]] == ["power"]
        await device.ask("twin/update", report(brightness="8"))
        change = (await device.told("twin/update/document"))["twin"]["brightness"]
        assert (change["last"], change["current"]["actual_version"]["edge"]) == (None, 3)


async def test_deleting_what_is_not_there_changes_nothing(kind, tmp_path):  # noqa: F811
    async with site(kind, tmp_path, MODEL, lamp()) as (_, device):
        gone = {"twin": {"brightness": None}}
        assert (await device.ask("twin/update", gone))["twin"] == {}
        unknown = await device.ask("twin/update", {"twin": {"hue": None}})
        assert (unknown["code"], "property 'hue'" in unknown["reason"]) == (400, True)


async def test_a_deleted_twin_that_the_device_object_desires_is_asked_for_again(kind, tmp_path):  # noqa: F811
    async with site(kind, tmp_path, MODEL, lamp(power="true")) as (_, device):
        await device.told("twin/update/delta")
        await device.ask("twin/update", report(power="true"))
        result = await device.ask("twin/update", {"twin": {"power": None}})
        assert result["twin"] == {"power": None}
        delta = await device.told("twin/update/delta")
        assert delta["delta"] == {"power": "true"}
        assert "actual" not in delta["twin"]["power"]


@pytest.mark.parametrize("tail", ["twin/update", "twin/cloud_updated"])
async def test_an_unreadable_body_is_answered_where_kubeedge_does_and_to_the_device(
    kind, tmp_path, tail  # noqa: F811
):  # fmt: skip
    async with (
        site(kind, tmp_path, MODEL, lamp()) as (_, device),
        aiomqtt.Client("127.0.0.1", device.port) as other,
    ):
        await other.subscribe("$hw/events/device//twin/update/result", qos=1)
        await device.send(tail, b"{")
        there = json.loads((await anext(other.messages)).payload)
        assert there == await device.told("twin/update/result")
        assert (set(there), there["code"]) == ({*COMMON, "code", "reason"}, 400)


def cloud_update(prop="brightness", value="9", **versions):
    """A twin/cloud_updated message that expects a value."""
    twin = {"expected": {"value": value}, "metadata": {"type": "int"}, **versions}
    return {"event_id": "c", "timestamp": 1, "twin": {prop: twin}}


async def test_cloud_updated_is_taken_with_its_version_and_told(kind, tmp_path):  # noqa: F811
    async with site(kind, tmp_path, MODEL, lamp()) as (_, device):
        await device.send("twin/cloud_updated", cloud_update(expected_version={"cloud": 4}))
        document = await device.told("twin/update/document")
        change = document["twin"]["brightness"]
        assert (document["event_id"], change["last"]) == ("c", None)
        is_value(change["current"]["expected"], "9")
        assert change["current"]["expected_version"] == {"cloud": 4, "edge": 0}
        assert (await device.told("twin/update/delta"))["delta"] == {"brightness": "9"}


async def test_cloud_updated_that_is_older_is_not_taken_and_said(kind, tmp_path):  # noqa: F811
    async with site(kind, tmp_path, MODEL, lamp()) as (_, device):
        versions = {"expected_version": {"cloud": 4, "edge": 0}}
        await device.send("twin/cloud_updated", cloud_update(**versions))
        await device.told("twin/update/document")
        older = cloud_update(value="10", expected_version={"cloud": 3, "edge": 0})
        await device.send("twin/cloud_updated", older)
        error = await device.told("twin/update/result")
        assert (error["event_id"], error["code"]) == ("c", 409)
        assert "'brightness': expected_version (cloud 3, edge 0) is behind" in error["reason"]
        twin = (await device.ask("twin/get", {}))["twin"]["brightness"]
        assert twin["expected"]["value"] == "9"


async def test_cloud_updated_deletes_what_is_of_type_deleted(kind, tmp_path):  # noqa: F811
    async with site(kind, tmp_path, MODEL, lamp()) as (_, device):
        await device.ask("twin/update", report(brightness="7"))
        await device.told("twin/update/document")
        gone = {"twin": {"brightness": {"metadata": {"type": "deleted"}}}}
        await device.send("twin/cloud_updated", gone)
        assert (await device.told("twin/update/document"))["twin"]["brightness"]["current"] is None


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (cloud_update(), 400, "'brightness': expected_version is missing"),
        (cloud_update(value="101", expected_version={}), 400, "more than the maximum of 100"),
        (cloud_update("hue", expected_version={}), 400, "property 'hue'"),
        (cloud_update(expected_version={"cloud": -1}), 400, "bad request body"),
        ({"event_id": "c"}, 400, "`twin` is missing"),
    ],
)
async def test_a_bad_cloud_update_has_code_and_reason_and_changes_nothing(
    kind, tmp_path, body, code, said  # noqa: F811
):  # fmt: skip
    async with site(kind, tmp_path, MODEL, lamp()) as (_, device):
        await device.send("twin/cloud_updated", body)
        error = await device.told("twin/update/result")
        assert (error["code"], said in error["reason"]) == (code, True), error["reason"]
        assert (await device.ask("twin/get", {}))["twin"] == {}


async def test_cloud_updated_of_an_unknown_device_is_404(kind, tmp_path):  # noqa: F811
    async with site(kind, tmp_path) as (_, device):
        await device.send("twin/cloud_updated", cloud_update(expected_version={}))
        assert (await device.told("twin/update/result"))["code"] == 404


@pytest.mark.parametrize(
    ("tail", "body", "code", "said"),
    [
        ("twin/get", b"[", 400, "bad request body"),
        ("state/update", b"\xff", 400, "bad request body"),
        ("state/update", {"event_id": "x"}, 400, "`state` is missing"),
        ("state/update", {"event_id": "x", "state": "merry"}, 400, "state 'merry' is not one of"),
        ("state/update", {"event_id": "x", "state": 1}, 400, "bad request body"),
        ("membership/get", b"{", 400, "bad request body"),
        ("values", {"properties": ["power"], "rows": [[1]]}, 400, "rows[0]: 1 cells"),
        ("values", {"properties": ["hue"], "rows": [[1, 2]]}, 400, "property 'hue'"),
        ("values", {"properties": ["brightness"], "rows": [[1, 101]]}, 400, "maximum of 100"),
        ("values", {"properties": ["brightness"], "rows": [[-1, 1]]}, 400, "Unix milliseconds"),
        ("twin/get", b" " * (300 << 10), 400, "limit of 262144"),
    ],
)
async def test_every_bad_request_is_answered_beside_it(kind, tmp_path, tail, body, code, said):  # noqa: F811
    async with site(kind, tmp_path, MODEL, lamp()) as (_, device):
        error = await device.ask(tail, body)
        assert set(error) == {*COMMON, "code", "reason"}
        assert (error["code"], said in error["reason"]) == (code, True), error["reason"]
