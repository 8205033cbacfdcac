"""Reports folded over a batch are what the twin machine makes of them one by one: twins, changes, answers, stream."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicemodels.objects import (
    Device,
    DeviceModel,
    DeviceProperty,
    DeviceSpec,
    Metadata,
    ModelProperty,
    ModelRef,
    ModelSpec,
    Reporting,
    TwinValue,
)
from devicemodels.twin import REFRESH_MS, Twin, take_desired
from edgecore.devicetwin.batch import Answer, Batch
from edgecore.devicetwin.roster import Roster
from edgecore.eventbus import payloads, topics
from edgecore.eventbus.payloads import PayloadError

NOW_MS = 1_700_000_000_000
TYPES = ("INT", "FLOAT", "DOUBLE", "BOOLEAN", "STRING", "BYTES", "JSON", "STREAM")
PROPERTIES = [ModelProperty(name=kind.lower(), type=kind, maximum="8") for kind in TYPES]
PROPERTIES += [ModelProperty(name="wanted", type="INT"), ModelProperty(name="ä", type="INT")]
PROPERTIES += [ModelProperty(name="paced", type="INT", reporting=Reporting(on_change=True))]
NAMES = [prop.name for prop in PROPERTIES]
MODEL = DeviceModel(
    metadata=Metadata(name="m", namespace="n"), spec=ModelSpec(properties=tuple(PROPERTIES))
)
# Mostly what fits the type, so that values are taken; each fits some.
VALUE = st.sampled_from(["1", "1", "7", "9", "true", "1.5", "-2e3", "c2Vl", '"é"', 'ä\n"', ""])
ACTUAL = st.builds(lambda value: {"actual": {"value": value}}, VALUE)
OTHER = st.one_of(
    st.builds(lambda value: {"expected": {"value": value}}, VALUE),
    st.builds(lambda one, other: {**one, "expected": {"value": other}}, ACTUAL, VALUE),
    st.just({"actual": {}}),
    st.just({"refused": {"reason": "no"}}),
)
TWIN = st.one_of(
    st.dictionaries(st.sampled_from(NAMES), ACTUAL, max_size=2),
    st.dictionaries(st.sampled_from(NAMES), ACTUAL, max_size=2),
    st.dictionaries(st.sampled_from([*NAMES, "unknown"]), st.one_of(ACTUAL, OTHER), max_size=2),
)
MESSAGE = st.tuples(st.sampled_from(["n/a", "n/b", "n/gone"]), st.sampled_from(["", 'e"1']), TWIN)
BATCHES = st.lists(
    st.tuples(st.sampled_from([0, 1, REFRESH_MS]), st.lists(MESSAGE, max_size=8)), max_size=3
)


def device(name):
    wanted = DeviceProperty(name="wanted", desired=TwinValue(value="7"))
    spec = DeviceSpec(device_model_ref=ModelRef(name="m"), properties=(wanted,))
    return Device(metadata=Metadata(name=name, namespace="n", uid=name), spec=spec)


ROSTER = Roster("edge-1", {f"n/{n}": device(n) for n in "ab"}, {"n/m": MODEL})


def held():
    return {
        device_id: take_desired(Twin(device.metadata.uid), device, MODEL, NOW_MS - 5).twin
        for device_id, device in ROSTER.devices.items()
    }


def one_by_one(batch, topic, payload):
    """Work an update through as a whole merge, which is what folding is measured by."""
    request = topics.parse(topic)
    try:
        event_id, readings = payloads.decode_update(payload)
        batch.answers.append(batch.update(request, readings, event_id))
    except PayloadError as exc:
        body = payloads.encode_error(exc, batch.now_ms)
        batch.answers.append(Answer(topics.result(request), body))


def work(batches, handle):
    """Return what is held in the end, and everything each batch came to."""
    twins, outcomes, now_ms = held(), [], NOW_MS
    for later_ms, messages in batches:
        now_ms += later_ms
        batch = Batch(ROSTER, twins, now_ms)
        for device_id, event_id, twin in messages:
            body = {"event_id": event_id, "twin": twin}
            topic = f"$hw/events/device/{device_id}/twin/update"
            handle(batch, topic, json.dumps(body).encode())
        batch.fold()
        twins |= batch.twins
        named = (batch.answers, batch.twins, batch.changes, batch.event_ids, batch.heard)
        outcomes.append((*named, streamed(batch)))
    return twins, outcomes


def streamed(batch):
    """Return the values by series, in the order in which they are put."""
    found = {}
    for device_id, name, times, values in batch.streamed.columns:
        found.setdefault((device_id, name), []).extend(zip(times, values, strict=True))
    for device_id, name, time_ms, value in batch.streamed.rows:
        found.setdefault((device_id, name), []).append((time_ms, value))
    return found


@given(BATCHES)
def test_reports_folded_over_a_batch_are_what_they_would_be_one_by_one(batches):
    assert work(batches, Batch.handle) == work(batches, one_by_one)


@pytest.mark.parametrize("text", ["1", "-0", "+7", "007"])
def test_an_answer_of_a_folded_report_is_the_text_that_was_said(text):
    batch = Batch(ROSTER, held(), NOW_MS)
    body = json.dumps({"event_id": "e", "twin": {"int": {"actual": {"value": text}}}}).encode()
    batch.handle("$hw/events/device/n/a/twin/update", body)
    (answer,) = batch.answers
    assert answer.durable
    said = json.loads(answer.payload)
    assert said["twin"]["int"]["actual"]["value"] == text
    assert batch.twins == {}  # until it is folded
    batch.fold()
    assert batch.twins["n/a"].properties["int"].reported.value == text


def test_a_failed_commit_turns_every_answer_of_a_folded_report_into_an_error():
    batch = Batch(ROSTER, held(), NOW_MS)
    body = json.dumps({"event_id": "e", "twin": {"int": {"actual": {"value": "1"}}}}).encode()
    batch.handle("$hw/events/device/n/a/twin/update", body)
    (told,) = batch.failed("the disk is full")
    assert json.loads(told.payload)["code"] == 500
    assert json.loads(told.payload)["event_id"] == "e"
