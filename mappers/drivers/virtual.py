"""`virtual`: devices that are not there. Signals to plot, a lamp to switch, and faults when asked for."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from mappers.sdk import (
    DeviceUnreachableError,
    Driver,
    Point,
    PointFault,
    Value,
    WriteRefusedError,
)

Signal = Literal["memory", "sine", "walk", "counter", "noise", "switch", "warmth", "fault"]


class VirtualConfig(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Shapes: seed: 0 takes a new one each time. switchedByHandS: a hand on every switch, so often; 0: none. hand:
    `property=value`, a hand that sets it once, when this text is new.
    """

    seed: int = 0
    switched_by_hand_s: float = 0.0
    hand: str = ""

    def __post_init__(self) -> None:
        """Refuse a hand that sets nothing."""
        if self.hand and not self.hand.partition("=")[0]:
            raise ValueError(f"hand {self.hand!r} is not property=value")


class VirtualPoint(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a property does by itself.

    memory: keeps what is written. sine: offset + amplitude x sin over periodS. walk: steps of `step` at random, kept
    within offset ± amplitude. counter: offset + step x readings. noise: offset ± amplitude. switch: a BOOLEAN to be
    written. warmth: offset, and amplitude more while the switch `of` is on. fault: writing `unreachable`, `refuse`
    or `stuck` to it makes the device so, an empty text ends it.
    """

    signal: Signal = "memory"
    initial: str | float | bool = 0.0
    amplitude: float = 1.0
    offset: float = 0.0
    period_s: float = 60.0
    step: float = 1.0
    of: str = ""


class VirtualDriver(Driver[VirtualConfig, VirtualPoint]):
    """One simulated device. Its state is its process's: a restart begins with the initial values."""

    Config, PointConfig = VirtualConfig, VirtualPoint
    _kept: dict[str, dict[str, Value]] = {}  # of each device, over its reconnections  # noqa: RUF012
    _hands: dict[str, str] = {}  # the last one on each device  # noqa: RUF012

    async def open(self) -> None:
        """Begin where the device stands."""
        self._random = random.Random(self.config.seed or None)
        initial = {p.name: _initial(p) for p in self.points.values()}
        self._values = self._kept.setdefault(self.device, {})
        # A property that is new, or of another type since, begins anew.
        kinds = {p.name: p.type for p in self.points.values()}
        stale = {k: v for k, v in initial.items() if not _fits(self._values.get(k), kinds[k])}
        self._values.update(stale)
        self._began_s = time.monotonic()
        self._touch()
        self._check()

    @classmethod
    def forget(cls, device: str) -> None:
        """Drop the state of a device that is gone: one of the same name is another one."""
        cls._kept.pop(device, None)
        cls._hands.pop(device, None)

    async def read(self, points: Sequence[Point[VirtualPoint]]) -> Mapping[str, Value | PointFault]:
        """Let time pass for the signals, unless the device is stuck."""
        self._check()
        if self._fault() != "stuck":
            for point in points:
                self._values[point.name] = self._next(point)
        return {point.name: self._values[point.name] for point in points}

    async def write(self, point: Point[VirtualPoint], value: Value) -> None:
        """Take a value, unless the device is to refuse."""
        if point.config.signal != "fault":
            self._check()
            if self._fault() == "refuse":
                raise WriteRefusedError(self.device, "refuses everything, as it was told to")
            if self._fault() == "stuck":
                return
        self._values[point.name] = value

    def _touch(self) -> None:
        """Set what a hand has set, if it has not before."""
        name, _, text = self.config.hand.partition("=")
        if name in self.points and self._hands.get(self.device) != self.config.hand:
            self._values[name] = _value_of(text, self.points[name].type)
        self._hands[self.device] = self.config.hand

    def _fault(self) -> str:
        faults = (p.name for p in self.points.values() if p.config.signal == "fault")
        return next((str(self._values[name]) for name in faults if self._values[name]), "")

    def _check(self) -> None:
        if self._fault() == "unreachable":
            # Ends with the next opening, or nothing could ever end it.
            for point in self.points.values():
                if point.config.signal == "fault":
                    self._values[point.name] = ""
            raise DeviceUnreachableError(self.device, "is unreachable, as it was told to be")

    def _next(self, point: Point[VirtualPoint]) -> Value:
        config, now = point.config, self._values[point.name]
        elapsed_s = time.monotonic() - self._began_s
        match config.signal:
            case "sine":
                turn = math.sin(2 * math.pi * elapsed_s / max(config.period_s, 0.001))
                return round(config.offset + config.amplitude * turn, 6)
            case "walk" if isinstance(now, int | float):
                moved = now + self._random.choice((-config.step, config.step))
                low, high = config.offset - config.amplitude, config.offset + config.amplitude
                return round(min(max(moved, low), high), 6)
            case "counter" if isinstance(now, int | float):
                return now + config.step
            case "noise":
                spread = self._random.uniform(-config.amplitude, config.amplitude)
                return round(config.offset + spread, 6)
            case "warmth":
                return config.offset + (config.amplitude if self._values.get(config.of) else 0.0)
            case "switch" if self.config.switched_by_hand_s > 0:
                return bool(int(elapsed_s / self.config.switched_by_hand_s) % 2) != bool(now)
        return now


def _fits(value: Value | None, kind: str) -> bool:
    if kind == "BOOLEAN":
        return isinstance(value, bool)
    if kind in ("INT", "FLOAT", "DOUBLE"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str | bytes)


def _value_of(text: str, kind: str) -> Value:
    if kind == "BOOLEAN":
        return text == "true"
    try:
        return float(text) if kind in ("INT", "FLOAT", "DOUBLE") else text
    except ValueError:
        return text  # the model refuses it, and says why


def _initial(point: Point[VirtualPoint]) -> Value:
    config = point.config
    if config.signal == "fault":
        return ""
    if config.signal == "switch":
        return bool(config.initial)
    if config.signal == "memory":
        return config.initial if config.initial or point.type not in ("STRING", "BYTES") else ""
    return config.offset
