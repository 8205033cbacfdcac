"""When each device was heard last, from the readings that nodes send."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from cloudcore.devicecontroller.seams import Cache
from cloudcore.kube.resources import KubeObject
from cloudcore.valuestream.subscription import Wanted
from synccore.messages import ObjectKey
from synccore.samples import newest
from synccore.series import Readings

# More come only from nodes that name devices which are not there; those are dropped then, and never shown.
MAX_KNOWN = 100_000


class LastSeen:
    """The newest time of each device; a clock that is ahead counts as now.

    Shapes:  devices: tells which ones there are. Units: clock: Unix seconds.
    """

    def __init__(self, devices: Cache, clock: Callable[[], float]) -> None:
        self._devices, self._clock = devices, clock
        self._seen: dict[str, int] = {}
        devices.subscribe(self)

    def note(self, readings: Readings) -> None:
        """Note who was heard."""
        now_ms = int(self._clock() * 1000)
        for series, (time_ms, _) in newest(readings).items():
            heard_ms = min(time_ms, now_ms)
            if heard_ms > self._seen.get(series.device, 0):
                self._seen[series.device] = heard_ms
        if len(self._seen) > MAX_KNOWN:
            self._seen = {d: t for d, t in self._seen.items() if self._exists(d)}

    def of(self, devices: Iterable[str]) -> Iterator[tuple[str, int]]:
        """Yield device and time in Unix milliseconds of those that are wanted, as `Wanted`, and known."""
        wanted = Wanted(devices)
        return (
            (device, time_ms)
            for device, time_ms in self._seen.items()
            if wanted.has(device) and self._exists(device)
        )

    def on_upsert(self, obj: KubeObject) -> None:
        """Nothing follows from a change."""

    def on_delete(self, key: ObjectKey) -> None:
        """Forget a device: one of the same name is another one."""
        self._seen.pop(f"{key.namespace}/{key.name}", None)

    def on_synced(self) -> None:
        """Nothing follows."""

    def _exists(self, device: str) -> bool:
        namespace, _, name = device.partition("/")
        return self._devices.get(ObjectKey("Device", namespace, name)) is not None
