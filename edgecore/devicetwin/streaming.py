"""Reported values on their way to the stream: collected while a batch is worked through, put when it is stored."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Collection
from typing import Any, Protocol

from corekit.errors import EdgeError
from corekit.logs import RepeatedFault
from devicemodels.columns import text_of
from devicemodels.objects import ModelProperty
from synccore.series import MAX_TEXT_VALUE_BYTES, PRESENCE, Value, Values

logger = logging.getLogger(__name__)

# Readings handed over at once; a call costs as much as some ten of them.
MIN_PUT = 256
# A value as old as this does not say that its device is heard now: it was read earlier.
FRESH_MS = 2_000
# Devices whose values a policy holds back, or that only say their state, are shown as seen this often.
PRESENCE_MS = 2_000


class SampleSink(Protocol):
    """The buffer of samples, as seen from the twins."""

    def series(self, device: str, prop: str) -> int:
        """Return the number of a series. Raises: SeriesLimitError."""

    def put(self, series: array[int], times: array[int], values: Values) -> None:
        """Take readings; never waits."""


class Streamed:
    """Readings of one batch, in the order they came."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, int, Value]] = []
        self.columns: list[tuple[str, str, list[int], list[Value]]] = []

    def add(self, device_id: str, prop: ModelProperty, time_ms: int, text: str) -> None:
        """Add a value that the model has accepted; a text too long for the stream stays in the twin alone."""
        if prop.type == "INT":
            self.rows.append((device_id, prop.name, time_ms, int(text)))
        elif prop.type in ("DOUBLE", "FLOAT"):
            self.rows.append((device_id, prop.name, time_ms, float(text)))
        elif prop.type == "BOOLEAN":
            self.rows.append((device_id, prop.name, time_ms, text == "true"))
        elif len(text) <= MAX_TEXT_VALUE_BYTES and len(text.encode()) <= MAX_TEXT_VALUE_BYTES:
            self.rows.append((device_id, prop.name, time_ms, text))

    def add_values(
        self, device_id: str, prop: ModelProperty, time_ms: int, values: list[Any]
    ) -> None:
        """Add values of one time that the model has accepted, typed; of STRING, BYTES and JSON as text."""
        if prop.type not in ("INT", "FLOAT", "DOUBLE", "BOOLEAN"):
            for text in values:
                self.add(device_id, prop, time_ms, text)
        elif self.rows:  # which are put after the columns, and may be of the same property
            self.rows += [(device_id, prop.name, time_ms, value) for value in values]
        else:
            self.columns.append((device_id, prop.name, [time_ms] * len(values), values))

    def add_column(
        self, device_id: str, prop: ModelProperty, times: list[int], values: list[Any]
    ) -> None:
        """Add values that `check_column` has accepted."""
        if prop.type in ("DOUBLE", "FLOAT"):
            self.columns.append((device_id, prop.name, times, list(map(float, values))))
        elif prop.type in ("INT", "BOOLEAN"):
            self.columns.append((device_id, prop.name, times, values))
        else:
            for time_ms, value in zip(times, values, strict=True):
                self.add(device_id, prop, time_ms, text_of(prop, value))

    def heard(self, device_ids: Collection[str], now_ms: int) -> set[str]:
        """Return those devices of which no value is here that says when they were heard."""
        shown = {row[0] for row in self.rows}
        late_ms = now_ms - FRESH_MS
        shown.update(column[0] for column in self.columns if column[2][-1] >= late_ms)
        return {device_id for device_id in device_ids if device_id not in shown}


class Streamer:
    """Puts rows into the buffer as columns. A series that cannot be known is said once, and not streamed."""

    def __init__(self, sink: SampleSink | None) -> None:
        self._sink = sink
        self._numbers: dict[tuple[str, str], int] = {}
        self._signs_ms: dict[str, int] = {}  # when a device's sign of life was streamed last
        self._fault = RepeatedFault(logger, "values are not streamed")

    def put(self, streamed: Streamed) -> None:
        """Hand over the rows of a batch that is stored."""
        if self._sink is None:
            return
        series, times, values = array("I"), array("q"), list[Value]()
        for device_id, name, moments, column in streamed.columns:
            if (number := self._number(device_id, name)) is None:
                continue
            series.extend(array("I", [number]) * len(moments))
            times.extend(moments)
            values += column
            # A column of one type stays an array: only small ones are worth putting together.
            if len(series) >= MIN_PUT:
                self.put_columns(series, times, values)
                series, times, values = array("I"), array("q"), list[Value]()
        for device_id, name, time_ms, value in streamed.rows:
            if (number := self._number(device_id, name)) is not None:
                series.append(number)
                times.append(time_ms)
                values.append(value)
        self.put_columns(series, times, values)

    def put_presence(self, device_ids: Collection[str], now_ms: int) -> None:
        """Say that devices were heard, of which no value says so; each once in `PRESENCE_MS`."""
        due = [d for d in device_ids if not 0 <= now_ms - self._signs_ms.get(d, 0) < PRESENCE_MS]
        numbers = array("I")
        for device_id in due:
            if (number := self._number(device_id, PRESENCE)) is not None:
                self._signs_ms[device_id] = now_ms
                numbers.append(number)
        self.put_columns(numbers, array("q", [now_ms]) * len(numbers), [1.0] * len(numbers))

    def forget(self, device_id: str) -> None:
        """Drop what is known of a device that is gone."""
        self._signs_ms.pop(device_id, None)

    def put_columns(self, series: array[int], times: array[int], values: list[Value]) -> None:
        """Hand over columns whose series `number()` gave."""
        if self._sink is None or not series:
            return
        floats = [value for value in values if type(value) is float]
        self._sink.put(series, times, array("d", floats) if len(floats) == len(values) else values)

    def _number(self, device_id: str, name: str) -> int | None:
        number = self._numbers.get((device_id, name))
        if number is None and self._sink is not None:
            try:
                number = self._sink.series(device_id, name)
            except EdgeError as exc:
                self._fault.failed(exc)
                return None
            self._numbers[device_id, name] = number
        return number
