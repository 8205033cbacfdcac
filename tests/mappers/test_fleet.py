"""Devices in one mapper: what a driver does is its own device's affair."""

import asyncio
import contextlib
import sys
from collections import defaultdict

import msgspec
import pytest

from devicemodels.pb import dmi_pb2 as pb
from mappers.sdk import DeviceUnreachableError, Driver, WriteRefusedError, runner
from mappers.sdk.fleet import Fleet
from tests.fakes.waiting import eventually

pytestmark = pytest.mark.timeout(90)


class Config(msgspec.Struct, frozen=True, rename="camel"):
    """Shapes: behaviour: what the device does to its driver."""

    behaviour: str = ""

    def __post_init__(self):
        """Fail as somebody's code may."""
        if self.behaviour == "schema":
            raise RuntimeError("no such thing")


class Line(Driver[Config, msgspec.Struct]):
    """A device whose values outlive the driver; it does what its configuration says."""

    Config = Config
    values = defaultdict(dict)  # noqa: RUF012  # of each device
    written = defaultdict(list)  # noqa: RUF012
    open_now = defaultdict(int)  # noqa: RUF012
    away = set()  # noqa: RUF012
    opened = defaultdict(int)  # noqa: RUF012

    async def open(self):
        self._reachable()
        self.opened[self.device] += 1
        self.open_now[self.device] += 1
        assert self.open_now[self.device] == 1, "two drivers on one line"

    async def read(self, points):
        self._reachable()
        match self.config.behaviour:
            case "raise":
                raise KeyError("a bug")
            case "exit":
                sys.exit(3)
            case "cancel":
                raise asyncio.CancelledError
            case "hang":
                await asyncio.Event().wait()
            case "nothing":
                return None
            case "odd":
                return {p.name: object() for p in points} | {"never heard of": 1}
        return {p.name: self.values[self.device].get(p.name, 0) for p in points}

    async def write(self, point, value):
        self._reachable()
        if value == 13:
            raise WriteRefusedError(self.device, "does not like 13")
        self.written[self.device].append((point.name, value))
        self.values[self.device][point.name] = value

    async def close(self):
        if self.open_now[self.device]:
            await asyncio.sleep(0)  # as real connections do
            self.open_now[self.device] -= 1
        if self.config.behaviour == "close":
            raise OSError("already gone")

    def _reachable(self):
        if self.device in self.away:
            raise DeviceUnreachableError(self.device, "is away")


class Reports:
    """Keeps what is reported."""

    def __init__(self):
        self.readings, self.observed, self.states = {}, [], defaultdict(list)

    def read(self, device, prop, text):
        self.readings[device, prop] = text

    def observe(self, device, prop, value, error=""):
        self.observed.append((device, prop, value, error))

    def state(self, device, state):
        self.states[device].append(state)

    def forget(self, device):
        self.states.pop(device, None)


MODEL = pb.DeviceModel(
    name="line",
    namespace="default",
    spec=pb.DeviceModelSpec(
        properties=[
            pb.ModelProperty(name=n, type="INT", accessMode="ReadWrite", maximum="100")
            for n in ("a", "b")
        ]
    ),
)


def device(name, behaviour="", properties=("a", "b"), **desired):
    made = pb.Device(name=name, namespace="default")
    made.spec.deviceModelReference = "line"
    made.spec.protocol.configData.data["behaviour"].Pack(text(behaviour))
    for prop in properties:
        one = made.spec.properties.add(name=prop, collectCycle=10)
        if prop in desired:
            one.desired.value = desired[prop]
    return made


def text(value):
    from google.protobuf.wrappers_pb2 import StringValue

    return StringValue(value=value)


@pytest.fixture
def reports(monkeypatch):
    for kept in (Line.values, Line.written, Line.open_now, Line.away, Line.opened):
        kept.clear()
    monkeypatch.setattr(runner, "BACKOFF_S", (0.001, 0.01))
    return Reports()


@contextlib.asynccontextmanager
async def fleet_of(reports, *devices):
    async with asyncio.TaskGroup() as group:
        fleet = Fleet(Line, reports, group)
        fleet.replace_all([MODEL], devices)
        try:
            yield fleet
        finally:
            fleet.close()


@pytest.mark.parametrize("behaviour", ["raise", "exit", "cancel", "nothing", "schema"])
async def test_whatever_a_driver_raises_is_its_own_devices_fault(reports, behaviour):
    async with fleet_of(reports, device("bad", behaviour), device("good")) as fleet:
        await eventually(lambda: "unhealthy" in reports.states["default/bad"])
        await eventually(lambda: ("default/good", "a") in reports.readings)
        assert reports.states["default/good"] == ["online"]
        fleet.put(device("bad"))  # somebody mended it
        await eventually(lambda: ("default/bad", "a") in reports.readings)


async def test_a_driver_that_hangs_is_offline_and_holds_up_nobody(reports, monkeypatch):
    monkeypatch.setattr(runner, "CALL_TIMEOUT_S", 0.3)
    async with fleet_of(reports, device("bad", "hang"), device("good")):
        await eventually(lambda: "offline" in reports.states["default/bad"])
        await eventually(lambda: ("default/good", "a") in reports.readings)
        assert "offline" not in reports.states["default/good"]


async def test_what_is_no_value_is_not_reported_and_the_device_stays(reports):
    async with fleet_of(reports, device("odd", "odd")) as fleet:
        await eventually(lambda: reports.states["default/odd"] == ["online"])
        fleet.put(device("odd", "odd", a="5"))
        await eventually(lambda: Line.written["default/odd"] == [("a", 5)])
        assert reports.readings == {}
        assert reports.states["default/odd"] == ["online"]


async def test_a_device_without_properties_is_online_and_idle(reports):
    async with fleet_of(reports, device("bare", properties=())):
        await eventually(lambda: reports.states["default/bare"] == ["online"])


async def test_a_driver_that_fails_to_close_is_replaced_all_the_same(reports):
    async with fleet_of(reports, device("one", "close")) as fleet:
        await eventually(lambda: ("default/one", "a") in reports.readings)
        reports.readings.clear()
        fleet.put(device("one"))
        await eventually(lambda: Line.opened["default/one"] == 2)
        await eventually(lambda: ("default/one", "a") in reports.readings)


async def test_a_new_configuration_waits_for_the_old_connection_to_close(reports):
    async with fleet_of(reports, device("one")) as fleet:
        for number in range(20):
            await eventually(lambda: ("default/one", "a") in reports.readings)
            reports.readings.clear()
            fleet.put(device("one", f"other {number}"))
        await eventually(lambda: ("default/one", "a") in reports.readings)
    assert "unhealthy" not in reports.states["default/one"]


async def test_a_desired_value_is_written_once_however_often_it_is_told(reports):
    async with fleet_of(reports, device("one", a="7")) as fleet:
        await eventually(lambda: reports.observed == [("default/one", "a", "7", "")])
        fleet.replace_all([MODEL], [device("one", a="7")])  # edgecore was away, and asks again
        await eventually(lambda: len(reports.observed) == 2)
        assert reports.observed[0] == reports.observed[1]
        fleet.put(device("one"))  # heard
        fleet.put(device("one", a="8"))
        await eventually(lambda: ("default/one", "a", "8", "") in reports.observed)
    assert Line.written["default/one"] == [("a", 7), ("a", 8)]
    assert Line.opened["default/one"] == 1


async def test_a_value_that_the_device_has_already_is_taken_without_writing(reports):
    Line.values["default/one"]["a"] = 7
    async with fleet_of(reports, device("one", a="7")):
        await eventually(lambda: reports.observed == [("default/one", "a", "7", "")])
    assert Line.written["default/one"] == []


async def test_a_device_that_comes_back_gets_the_newest_of_what_changed_once(reports):
    Line.away.add("default/one")
    async with fleet_of(reports, device("one", a="1")) as fleet:
        await eventually(lambda: "offline" in reports.states["default/one"])
        fleet.put(device("one", a="2"))
        fleet.put(device("one", a="3", b="4"))
        Line.away.clear()
        await eventually(lambda: len(reports.observed) == 2)
        await eventually(lambda: reports.states["default/one"][-1] == "online")
    assert sorted(Line.written["default/one"]) == [("a", 3), ("b", 4)]


@pytest.mark.parametrize(
    ("value", "words"), [("13", "does not like 13"), ("101", "more than the maximum of 100")]
)
async def test_a_refusal_is_told_with_its_reason_and_the_other_value_is_written(
    reports, value, words
):
    async with fleet_of(reports, device("one", a=value, b="4")):
        await eventually(lambda: len(reports.observed) == 2)
    told = {prop: error for _, prop, _, error in reports.observed}
    assert words in told["a"]
    assert told["b"] == ""
    assert Line.written["default/one"] == [("b", 4)]


async def test_a_removed_device_is_closed_and_says_nothing_more(reports):
    async with fleet_of(reports, device("one"), device("two")) as fleet:
        await eventually(lambda: len(reports.readings) == 4)
        fleet.replace_all([MODEL], [device("two")])
        await eventually(lambda: Line.open_now["default/one"] == 0)
        reports.readings.clear()
        await eventually(lambda: len(reports.readings) == 2)
    assert set(reports.readings) == {("default/two", "a"), ("default/two", "b")}
    assert "default/one" not in reports.states
