"""The compact form: many values of one device in one message, as a JSON table. Ours; KubeEdge has none.

    {"properties": ["temperature", "rpm"], "rows": [[1767225600000, 21.5, 900], [1767225600100, 21.6, null]]}

A row is a time in Unix milliseconds (null: now) and a value for each property (null: none); values are JSON's own
numbers, booleans and strings. There is an answer only if something is wrong, on `…/values/result`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from edgecore.eventbus.payloads import BAD_REQUEST, MAX_PAYLOAD_BYTES, PayloadError

# What one message may hold up the event loop for: about 10 ms.
MAX_VALUES = 32_768
MAX_TIME_MS = 1 << 53


class _Table(Struct):
    properties: list[str]
    rows: list[list[Any]]
    event_id: str = ""


class Columns(NamedTuple):
    """A decoded table. Shapes: columns[i]: (time_ms, value) of property i, without the nulls, in order."""

    event_id: str
    columns: dict[str, tuple[list[int], list[Any]]]


_decoder = msgspec.json.Decoder(_Table)


def decode_table(payload: bytes, now_ms: int) -> Columns:
    """Return the columns of a compact message. Raises: PayloadError: 400."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        size = f"payload of {len(payload)} bytes is more than the limit of {MAX_PAYLOAD_BYTES}"
        raise PayloadError(BAD_REQUEST, size)
    try:
        table = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise PayloadError(BAD_REQUEST, f"bad request body: {exc}") from exc
    return Columns(table.event_id, _columns(table, now_ms))


def _columns(table: _Table, now_ms: int) -> dict[str, tuple[list[int], list[Any]]]:
    names, rows = table.properties, table.rows
    width = len(names) + 1
    if len(set(names)) != len(names):
        raise PayloadError(BAD_REQUEST, "a property is there twice", table.event_id)
    if len(rows) * len(names) > MAX_VALUES:
        many = f"{len(rows) * len(names)} values are more than the limit of {MAX_VALUES}"
        raise PayloadError(BAD_REQUEST, many, table.event_id)
    for place, row in enumerate(rows):
        if len(row) != width:
            cells = f"rows[{place}]: {len(row)} cells, and with the time there should be {width}"
            raise PayloadError(BAD_REQUEST, cells, table.event_id)
    if not rows:
        return {}
    raw_times, *values = zip(*rows, strict=True)
    times = [now_ms if t is None else t for t in raw_times]
    if {int}.issuperset(map(type, times)) and min(times) >= 0 and max(times) < MAX_TIME_MS:
        return {
            name: _without_nulls(times, column) for name, column in zip(names, values, strict=True)
        }
    raise PayloadError(BAD_REQUEST, "a time is not Unix milliseconds", table.event_id)


def _without_nulls(times: list[int], column: tuple[Any, ...]) -> tuple[list[int], list[Any]]:
    if None not in column:
        return times, list(column)
    kept = [(t, v) for t, v in zip(times, column, strict=True) if v is not None]
    return [t for t, _ in kept], [v for _, v in kept]
