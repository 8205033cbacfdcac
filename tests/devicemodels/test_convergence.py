"""Whatever restarts or is cut, in any order: once all is well again, cloud, edge and device agree on every value."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from devicemodels.objects import (
    Device,
    DeviceModel,
    DeviceProperty,
    DeviceSpec,
    Metadata,
    ModelProperty,
    ModelSpec,
    TwinValue,
)
from devicemodels.twin import (
    Reading,
    Twin,
    come_back,
    decode_twin,
    encode_twin,
    expire_writes,
    merge_readings,
    merge_state,
    settle,
    take_desired,
    unsynced,
)

MODEL = DeviceModel(
    metadata=Metadata(name="lamp"),
    spec=ModelSpec(properties=(ModelProperty(name="level", type="INT", maximum="9"),)),
)
VALUES = st.integers(0, 9).map(str)
WRONG = "99"  # outside of the model's range: never reaches a device


class World(RuleBasedStateMachine):
    """One property of one device behind a broker behind a link. Each part may be away."""

    conflict = "Cloud"

    def __init__(self):
        super().__init__()
        self.now_ms = 1_000
        self.generation, self.desired = 0, None  # in the cloud
        self.linked = True
        self.twin = Twin("u")  # at the edge
        self.edge_up = self.broker_up = True
        self.device = "0"  # what the lamp does
        self.device_up = True
        self.wire = []  # to the device, then from it
        self.back = []
        self.told = []  # every value the device was ever told

    def _object(self):
        wanted = TwinValue(value=self.desired) if self.desired is not None else None
        prop = DeviceProperty(name="level", desired=wanted, conflict=self.conflict)
        meta = Metadata(name="d", namespace="n", generation=self.generation)
        return Device(metadata=meta, spec=DeviceSpec(properties=(prop,)))

    def _tick(self):
        self.now_ms += 7

    def _follow(self):
        """The edge sees the newest Device object: at once, or when link and agent are back."""
        if self.linked and self.edge_up:
            self.twin = take_desired(self.twin, self._object(), MODEL, self.now_ms).twin
            self._tell()

    def _tell(self):
        delta = unsynced(self.twin, MODEL, self._object_at_edge())
        if delta and self.broker_up and self.edge_up and self.twin.state != "offline":
            self.wire.append(delta["level"])

    def _object_at_edge(self):
        return self._object()  # only its conflict rule is read, which does not change here

    def _say(self):
        if self.broker_up and self.device_up:
            self.back.append(self.device)

    @rule(value=VALUES)
    def somebody_sets_a_value(self, value):
        self._tick()
        self.generation, self.desired = self.generation + 1, value
        self._follow()

    @rule()
    def somebody_sets_a_wrong_value(self):
        self._tick()
        self.generation, self.desired = self.generation + 1, WRONG
        self._follow()

    @rule()
    def the_link_is_cut(self):
        self.linked = False

    @rule()
    def the_link_is_back(self):
        self._tick()
        self.linked = True
        self._follow()

    @rule()
    def the_agent_is_killed(self):
        self.edge_up = False
        self.back.clear() if not self.broker_up else None

    @rule()
    def the_agent_is_back(self):
        self._tick()
        self.twin = decode_twin(encode_twin(self.twin))
        self.edge_up = True
        self._follow()
        self._tell()

    @rule()
    def the_broker_restarts(self):
        self._tick()
        self.wire.clear()
        self.back.clear()
        self.broker_up = True
        self._tell()
        self._say()

    @rule()
    def the_broker_dies(self):
        self.broker_up = False
        self.wire.clear()
        self.back.clear()

    @rule()
    def the_device_loses_power(self):
        self._tick()
        self.device_up = False
        self.wire.clear()
        if self.edge_up and self.broker_up:  # its last will
            self.twin = merge_state(self.twin, "offline", self.now_ms)

    @rule()
    def the_device_boots(self):
        self._tick()
        self.device_up, self.device = True, "0"
        self._say()

    @precondition(lambda self: self.device_up)
    @rule(value=VALUES)
    def a_hand_is_on_the_switch(self, value):
        self.device = value
        self._say()

    @rule()
    def messages_arrive(self):
        self._tick()
        if self.device_up and self.wire:
            self.device = self.wire.pop(0)
            self.told.append(self.device)
            self._say()
        if self.edge_up and self.back:
            self._hear(self.back.pop(0))

    def _hear(self, value):
        away = self.twin.state == "offline"
        readings = {"level": Reading(reported=value)}
        device = self._object_at_edge()
        merged = merge_readings(
            self.twin, "n/d", MODEL, readings, self.now_ms, device=device, linked=self.linked
        )
        self.twin = come_back(merged.twin, self.now_ms)
        if away or merged.touched:
            self._tell()

    @rule()
    def time_passes(self):
        self.now_ms += 31_000
        if self.edge_up:
            self.twin = expire_writes(self.twin, self._object_at_edge(), self.now_ms)
            if self.linked:
                self.twin = settle(self.twin)

    def teardown(self):
        self.the_broker_restarts()
        self.the_link_is_back()
        self.the_agent_is_back()
        if not self.device_up:
            self.the_device_boots()
        self._say()
        for _ in range(50):
            if not (self.wire or self.back):
                break
            self.messages_arrive()
        assert not self.wire, "edge and device talk without end"
        assert not self.back
        self.check()

    def check(self):
        held = self.twin.properties.get("level")
        assert held is not None
        assert held.reported.value == self.device
        assert WRONG not in self.told
        if self.desired is None:
            return
        assert held.desired.value == self.desired
        assert self.twin.generation == self.generation
        if self.desired == WRONG:
            assert held.phase == "Rejected"
        elif held.phase == "Applied":
            assert held.observed_desired.value == self.device
        if self.conflict == "Cloud" and self.desired != WRONG:
            assert (held.phase, self.device) == ("Applied", self.desired)
        else:
            assert held.phase in ("Applied", "Drifted", "Rejected")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("conflict", ["Cloud", "Edge", "Newest"])
def test_everything_converges(conflict):
    class Ruled(World):
        pass

    Ruled.conflict = conflict
    case = Ruled.TestCase
    case.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
    case("runTest").runTest()
