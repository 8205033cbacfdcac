"""Values kept in memory for looking back, as long as the properties' `history` says; gone when cloudcore ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from cloudcore.devicecontroller.seams import Cache
from cloudcore.seams import SampleOrigin
from devicemodels.objects import (
    DeviceProperty,
    ModelProperty,
    ObjectDecodeError,
    decode_device,
    decode_model,
)
from synccore.messages import ObjectKey
from synccore.series import Readings, Series, Value

# Of one series, and of all: 80 bytes each, so 160 MB at most. Full: the oldest of the series that grows go.
MAX_OF_SERIES = 20_000
MAX_KEPT = 2_000_000
# How long what a Device says of its history is believed: objects change rarely, blocks come many a second.
POLICY_S = 10.0

Kept = deque[tuple[int, Value]]


class History:
    """`SampleSink` that keeps what the devices' `history` asks for."""

    def __init__(self, devices: Cache, models: Cache, clock: Callable[[], float]) -> None:
        self._devices, self._models, self._clock = devices, models, clock
        self._kept: dict[Series, Kept] = {}
        self._count = 0
        # By device: when it was looked up, and seconds to keep by property.
        self._policies: dict[str, tuple[float, dict[str, int]]] = {}

    async def take(self, origin: SampleOrigin, readings: Readings) -> None:  # noqa: ARG002
        """Keep what is to be kept."""
        now_s = self._clock()
        ages = [self._keep_s(series, now_s) for series in readings.names]
        if not any(ages):
            return
        for place, time_ms, value in zip(
            readings.series, readings.times, readings.values, strict=True
        ):
            if ages[place]:
                self._keep(readings.names[place], time_ms, value)
        for series, keep_s in zip(readings.names, ages, strict=True):
            if keep_s:
                self._prune(series, (now_s - keep_s) * 1000)

    def read(self, device: str, prop: str, since_ms: int) -> Iterator[tuple[int, Value]]:
        """Iterate over the values of a property since a time, oldest first."""
        series = Series(device, prop)
        horizon_ms = (self._clock() - self._keep_s(series, self._clock())) * 1000
        least_ms = max(since_ms, horizon_ms)
        return (kept for kept in tuple(self._kept.get(series, ())) if kept[0] >= least_ms)

    def _keep(self, series: Series, time_ms: int, value: Value) -> None:
        kept = self._kept.get(series)
        if kept is None:
            kept = self._kept[series] = deque()
        if len(kept) >= MAX_OF_SERIES or (self._count >= MAX_KEPT and kept):
            kept.popleft()
            self._count -= 1
        if self._count < MAX_KEPT:
            kept.append((time_ms, value))
            self._count += 1

    def _prune(self, series: Series, least_ms: float) -> None:
        kept = self._kept.get(series)
        while kept and kept[0][0] < least_ms:
            kept.popleft()
            self._count -= 1

    def _keep_s(self, series: Series, now_s: float) -> int:
        looked_s, ages = self._policies.get(series.device, (-POLICY_S, {}))
        if now_s - looked_s >= POLICY_S:
            ages = self._look_up(series.device, now_s)
        keep_s = ages.get(series.property, 0)
        if not keep_s:
            self._count -= len(self._kept.pop(series, ()))
        return keep_s

    def _look_up(self, key: str, now_s: float) -> dict[str, int]:
        """Return property -> seconds to keep; once per device: objects of many properties take their time."""
        namespace, _, name = key.partition("/")
        found = self._devices.get(ObjectKey("Device", namespace, name))
        if found is None:
            self._policies.pop(key, None)  # nothing is remembered of devices that are no more
            return {}
        ages: dict[str, int] = {}
        with suppress(ObjectDecodeError):
            device = decode_device(found.body)
            ages = _ages(device.spec.properties)
            model = self._models.get(ObjectKey("DeviceModel", namespace, device.model_name))
            if model is not None:
                ages = _ages(decode_model(model.body).spec.properties) | ages
        self._policies[key] = now_s, ages
        return ages


def _ages(properties: Sequence[DeviceProperty | ModelProperty]) -> dict[str, int]:
    """Return what is said of each; of two with one name the first counts."""
    return {p.name: p.history.keep_seconds for p in reversed(properties) if p.history is not None}
