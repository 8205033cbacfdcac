"""What most messages at rate are: reported values of properties that nobody has asked anything of, folded into one change.

A twin is immutable and every merge makes a new one, which is right and costs ten times as much as the value itself. Here
the values of one batch are checked and answered one by one, and become one `PropertyTwin` in the end: the same one that
`merge_readings` would have come to, value by value. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from devicemodels.objects import Device, DeviceModel, ModelProperty
from devicemodels.reporting import policy_of
from devicemodels.twin import REFRESH_MS, Change, PropertyTwin, Stamped, Twin
from devicemodels.values import DeviceModelError, parse_value
from edgecore.eventbus.payloads import ReportedPart


class Track:
    """One property through one batch. Shapes: values: everything it was told, typed; of other types the text."""

    __slots__ = ("_before", "_count", "_part", "_text", "_time_ms", "prop", "values")

    def __init__(self, prop: ModelProperty, before: PropertyTwin | None) -> None:
        self.prop, self._before = prop, before
        held = before.reported if before else None
        self._text: str | None = held.value if held else None
        self._time_ms = held.time_ms if held else 0
        self._count = before.reported_count if before else 0
        self._part = ReportedPart(prop)
        self.values: list[Any] = []

    def take(self, text: str, value: Any, now_ms: int) -> str:
        """Take a value that the model allows; return what the answer says of it."""
        if text != self._text or not 0 <= now_ms - self._time_ms < REFRESH_MS:
            self._text, self._time_ms = text, now_ms
            self._count += 1
        self.values.append(text if self._part.is_text else value)
        return self._part.encode(text, self._time_ms)

    def change(self) -> Change:
        """Return the property before and after the batch."""
        before = self._before or PropertyTwin()
        if self._text is None or self._count == before.reported_count:
            return Change(self._before, before)
        reported = Stamped(self._text, self._time_ms)
        after = structs.replace(before, reported=reported, reported_count=self._count)
        return Change(self._before, after)


class Lane:
    """The properties of one device that can be folded, looked at when they are first named."""

    def __init__(self, device: Device, model: DeviceModel, twin: Twin, topic: str) -> None:
        self.device_id, self.topic = device.id, topic
        self._device, self._model, self._twin = device, model, twin
        self._tracks: dict[str, Track | None] = {}

    def take(self, reports: Mapping[str, str], now_ms: int) -> list[str] | None:
        """Take the values of one message, all or none; return the parts of the answer, None if it needs a whole merge."""
        checked = []
        for name, text in reports.items():
            track = self._tracks[name] if name in self._tracks else self._open(name)
            if track is None:
                return None
            try:
                checked.append((track, text, parse_value(self.device_id, track.prop, text)))
            except DeviceModelError:
                return None
        return [track.take(text, value, now_ms) for track, text, value in checked]

    def tracks(self) -> list[Track]:
        """Return the properties that were told something."""
        return [track for track in self._tracks.values() if track and track.values]

    def _open(self, name: str) -> Track | None:
        prop, held = self._model.property(name), self._twin.properties.get(name)
        wanted = held is not None and held.observed_desired is not None
        plain = prop is not None and not wanted and policy_of(self._device, prop) is None
        self._tracks[name] = track = Track(prop, held) if plain and prop is not None else None
        return track
