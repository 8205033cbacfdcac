"""The simulated devices."""

import pytest

from mappers.drivers.virtual import VirtualDriver
from mappers.sdk import DeviceUnreachableError, WriteRefusedError
from tests.mappers.driving import driving, read_all


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Devices of one test are not those of another."""
    monkeypatch.setattr(VirtualDriver, "_kept", {})
    monkeypatch.setattr(VirtualDriver, "_hands", {})


SIGNALS = {
    "sine": ("DOUBLE", {"signal": "sine", "offset": 20, "amplitude": 5, "periodS": 0.01}),
    "walk": ("DOUBLE", {"signal": "walk", "offset": 10, "amplitude": 2, "step": 1.5}),
    "counter": ("INT", {"signal": "counter", "step": 3}),
    "noise": ("DOUBLE", {"signal": "noise", "offset": 1, "amplitude": 0.5}),
}


async def test_signals_stay_within_their_amplitude_and_move():
    async with driving(VirtualDriver, {"seed": 7}, SIGNALS) as driver:
        rows = [await read_all(driver) for _ in range(200)]
    seen = {name: [row[name] for row in rows] for name in SIGNALS}
    assert all(15 <= v <= 25 for v in seen["sine"])
    assert all(8 <= v <= 12 for v in seen["walk"])
    assert all(0.5 <= v <= 1.5 for v in seen["noise"])
    assert seen["counter"] == list(range(3, 603, 3))
    assert all(len(set(values)) > 2 for values in seen.values())


async def test_a_seed_makes_the_same_walk_again(monkeypatch):
    walks = []
    for _ in range(2):
        monkeypatch.setattr(VirtualDriver, "_kept", {})
        async with driving(VirtualDriver, {"seed": 7}, {"walk": SIGNALS["walk"]}) as driver:
            walks.append([(await read_all(driver))["walk"] for _ in range(20)])
    assert walks[0] == walks[1]


async def test_a_device_that_was_deleted_leaves_nothing_to_one_of_its_name():
    points = {"level": ("INT", {"initial": 3})}
    async with driving(VirtualDriver, {"hand": "level=5"}, points) as driver:
        assert await read_all(driver) == {"level": 5}
        VirtualDriver.forget(driver.device)
    async with driving(VirtualDriver, {}, points) as driver:
        assert await read_all(driver) == {"level": 3}
    async with driving(VirtualDriver, {"hand": "level=5"}, points) as driver:
        assert await read_all(driver) == {"level": 5}


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [("BOOLEAN", "INT", 4), ("INT", "BOOLEAN", True), ("DOUBLE", "STRING", "x")],
)
async def test_a_property_of_another_type_begins_anew(before, after, value):
    kinds = {"INT": 4, "BOOLEAN": True, "STRING": "x", "DOUBLE": 1.5}
    for kind in (before, after):
        points = {"p": (kind, {"initial": kinds[kind]})}
        async with driving(VirtualDriver, {}, points) as driver:
            seen = await read_all(driver)
    assert seen == {"p": value}
    assert type(seen["p"]) in (type(value), float)


LAMP = {
    "lamp": ("BOOLEAN", {"signal": "switch"}),
    "heat": ("DOUBLE", {"signal": "warmth", "of": "lamp", "offset": 20, "amplitude": 30}),
    "fault": ("STRING", {"signal": "fault"}),
}


async def test_a_lamp_that_is_switched_on_gets_warm_and_stays_on_over_a_reconnection():
    async with driving(VirtualDriver, {}, LAMP) as driver:
        assert await read_all(driver) == {"lamp": False, "heat": 20, "fault": ""}
        await driver.write(driver.points["lamp"], True)
        assert await read_all(driver) == {"lamp": True, "heat": 50, "fault": ""}
    async with driving(VirtualDriver, {}, LAMP) as driver:
        assert (await read_all(driver))["lamp"] is True


async def test_a_hand_on_the_switch_turns_it_without_being_asked():
    async with driving(VirtualDriver, {"switchedByHandS": 0.001}, LAMP) as driver:
        assert {(await read_all(driver))["lamp"] for _ in range(2000)} == {True, False}


async def test_a_hand_sets_a_value_once():
    points = {"level": ("INT", {})}
    for hand, found in (("level=5", 5), ("level=5", 7), ("level=6", 6), ("nothing=1", 7)):
        async with driving(VirtualDriver, {"hand": hand}, points) as driver:
            assert await read_all(driver) == {"level": found}
            await driver.write(driver.points["level"], 7)


async def test_a_device_that_is_told_to_refuse_does_until_that_is_taken_back():
    async with driving(VirtualDriver, {}, LAMP) as driver:
        lamp, fault = driver.points["lamp"], driver.points["fault"]
        await driver.write(fault, "refuse")
        with pytest.raises(WriteRefusedError, match="refuses everything"):
            await driver.write(lamp, True)
        await driver.write(fault, "")
        await driver.write(lamp, True)
        assert (await read_all(driver))["lamp"] is True


async def test_a_stuck_device_takes_nothing_and_says_the_same():
    async with driving(VirtualDriver, {}, LAMP | {"counter": SIGNALS["counter"]}) as driver:
        before = await read_all(driver)
        await driver.write(driver.points["fault"], "stuck")
        await driver.write(driver.points["lamp"], True)
        assert await read_all(driver) == before | {"fault": "stuck"}


async def test_an_unreachable_device_comes_back_with_the_next_opening():
    async with driving(VirtualDriver, {}, LAMP) as driver:
        await driver.write(driver.points["fault"], "unreachable")
        with pytest.raises(DeviceUnreachableError, match="as it was told"):
            await read_all(driver)
    async with driving(VirtualDriver, {}, LAMP) as driver:
        assert (await read_all(driver))["fault"] == ""
