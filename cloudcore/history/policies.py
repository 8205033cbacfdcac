"""What the devices say of their history: which properties, for how long, and of which device's life."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from cloudcore.devicecontroller.seams import Cache
from devicemodels.objects import (
    DeviceProperty,
    ModelProperty,
    ObjectDecodeError,
    decode_device,
    decode_model,
)
from synccore.messages import ObjectKey
from synccore.series import Series

# How long what a Device says of its history is believed: objects change rarely, blocks come many a second.
BELIEVED_S = 10.0
# Lists of names of blocks that are remembered: a node's blocks repeat theirs.
_KEPT_LISTS = 64


class Policy(NamedTuple):
    """One device's. Shapes: uid: a device that is made anew under its name has another; seconds: by property."""

    uid: str
    seconds: dict[str, int]


NOBODY = Policy("", {})


class Policies:
    """Reads Devices and their models from the caches. `current` may be called in any thread, the rest in one."""

    def __init__(self, devices: Cache, models: Cache, clock: Callable[[], float]) -> None:
        self._devices, self._models, self._clock = devices, models, clock
        self._looked: dict[str, tuple[float, Policy]] = {}
        self._lists: dict[int, tuple[float, Sequence[Series], list[str]]] = {}

    def uids(self, names: Sequence[Series]) -> list[str]:
        """Return for each series the uid of its device, "" if its values are not kept."""
        now_s = self._clock()
        held = self._lists.get(id(names))
        if held is not None and held[1] is names and 0 <= now_s - held[0] < BELIEVED_S:
            return held[2]
        found = [self._uid(series, now_s) for series in names]
        self._lists.pop(id(names), None)
        if len(self._lists) >= _KEPT_LISTS:
            del self._lists[next(iter(self._lists))]
        self._lists[id(names)] = now_s, names, found
        return found

    def current(self, device: str) -> Policy:
        """Return what a device says now; `NOBODY` if there is none."""
        namespace, _, name = device.partition("/")
        found = self._devices.get(ObjectKey("Device", namespace, name))
        if found is None:
            return NOBODY
        seconds: dict[str, int] = {}
        with suppress(ObjectDecodeError):
            decoded = decode_device(found.body)
            seconds = _seconds(decoded.spec.properties)
            model = self._models.get(ObjectKey("DeviceModel", namespace, decoded.model_name))
            if model is not None:
                seconds = _seconds(decode_model(model.body).spec.properties) | seconds
        return Policy(found.uid, seconds)

    def forget(self, device: str) -> None:
        """Believe nothing any more that was read of a device."""
        self._looked.pop(device, None)
        self._lists.clear()

    def _uid(self, series: Series, now_s: float) -> str:
        looked_s, policy = self._looked.get(series.device, (now_s - BELIEVED_S, NOBODY))
        # Once per device: objects of many properties take their time. A clock that was set back is not believed.
        if not 0 <= now_s - looked_s < BELIEVED_S:
            policy = self.current(series.device)
            if policy is NOBODY:
                self._looked.pop(series.device, None)
            else:
                self._looked[series.device] = now_s, policy
        return policy.uid if policy.seconds.get(series.property) else ""


def _seconds(properties: Sequence[DeviceProperty | ModelProperty]) -> dict[str, int]:
    """Return what is said of each; of two with one name the first counts."""
    return {p.name: p.history.keep_seconds for p in reversed(properties) if p.history is not None}
