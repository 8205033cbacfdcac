"""What mappers report, into the twins: durable first, answered second."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from devicemodels.columns import check_column
from devicemodels.objects import DeviceModel, ModelProperty
from devicemodels.twin import Reading
from devicemodels.values import DeviceModelError, parse_value
from edgecore.devicetwin.batch import Batch, Checked
from edgecore.dmi.columns import Column
from edgecore.eventbus.payloads import PayloadError
from edgecore.eventbus.topics import Asked, Request

T = TypeVar("T")
_NUMBERS = frozenset({"INT", "FLOAT", "DOUBLE"})
_TYPED = _NUMBERS | {"BOOLEAN"}
ERROR = "error"  # metadata of an observed desired value that the device has refused


class Transacting(Protocol):
    """The twins, as seen by who reports in this process."""

    async def transact(self, work: Callable[[Batch], T]) -> T:
        """Do `work` on a batch; return once it is stored. Raises: NotStoredError."""


class Taken(NamedTuple):
    """What became of a batch of readings; `reason` is of the first one refused."""

    taken: int
    refused: int
    reason: str


class TwinReports:
    """Reports of mappers, on their way into the twins."""

    def __init__(self, twins: Transacting) -> None:
        self._twins = twins

    async def status(self, device_id: str, readings: Mapping[str, Reading]) -> None:
        """Take what one device has said or taken; the result appears on MQTT like that of any other update.

        Raises:  PayloadError: nothing of it was taken. NotStoredError.
        """
        request = Request(Asked.TWIN_UPDATE, device_id)
        await self._twins.transact(
            lambda batch: batch.answers.append(batch.update(request, readings, _event_id()))
        )

    async def state(self, device_id: str, state: str) -> None:
        """Take the state of one device. Raises: PayloadError, NotStoredError."""
        request = Request(Asked.STATE_UPDATE, device_id)
        await self._twins.transact(
            lambda batch: batch.answers.append(batch.state(request, state, _event_id()))
        )

    async def readings(self, columns: Sequence[Column]) -> Taken:
        """Take readings of any devices: the newest of each property into its twin, every one on.

        What a model forbids is refused by itself. Raises: NotStoredError.
        """
        by_device: dict[str, list[Column]] = {}
        for column in columns:
            by_device.setdefault(column.device, []).append(column)
        return await self._twins.transact(lambda batch: _merge(batch, by_device))


def _merge(batch: Batch, by_device: Mapping[str, Sequence[Column]]) -> Taken:
    taken = refused = 0
    reason = ""
    for device_id, columns in by_device.items():
        given = sum(len(column.values) for column in columns)
        good: list[Checked] = []
        try:
            model = batch.model_of(device_id)
            for column in columns:
                checked, problem = _allowed(device_id, model, column)
                reason = reason or problem
                good += [checked] if checked else []
            if good:
                batch.take(device_id, good)
        except PayloadError as exc:
            reason, good = reason or exc.reason, []
        count = sum(len(checked.values) for checked in good)
        taken, refused = taken + count, refused + given - count
    return Taken(taken, refused, reason)


def _allowed(device_id: str, model: DeviceModel, column: Column) -> tuple[Checked | None, str]:
    """Return the values that the model allows, None if it allows none, and the reason of the first one refused."""
    prop = model.property(column.property)
    if prop is None:
        return None, f"device {device_id}: property {column.property[:64]!r}: is not in its model"
    values = column.values
    if prop.type in _NUMBERS and isinstance(values[0], float):
        numbers = _numbers(device_id, prop, values)
        if numbers is not None:
            newest = _number_text(prop, values[-1])
            return Checked(prop, column.times_ms, numbers, newest), ""
    return _one_by_one(device_id, prop, column)


def _numbers(device_id: str, prop: ModelProperty, values: list[float]) -> list[Any] | None:
    """Return numbers as the property has them, None if one of them is not allowed; some ten nanoseconds each."""
    numbers: list[Any] = values
    if prop.type == "INT" and all(map(float.is_integer, values)):
        numbers = list(map(int, values))
    elif not math.isfinite(sum(map(abs, values))):
        return None  # not a number in it, or perhaps only a large sum
    try:
        check_column(device_id, prop, numbers)
    except DeviceModelError:
        return None
    return numbers


def _one_by_one(device_id: str, prop: ModelProperty, column: Column) -> tuple[Checked | None, str]:
    times: list[int] = []
    values: list[Any] = []
    newest = problem = ""
    value: Any  # a message has either kind
    for time_ms, value in zip(column.times_ms, column.values, strict=True):
        text = value if isinstance(value, str) else _number_text(prop, value)
        try:
            parsed = parse_value(device_id, prop, text)
        except DeviceModelError as exc:
            problem = problem or str(exc)
            continue
        times.append(time_ms)
        values.append(parsed if prop.type in _TYPED else text)
        newest = text
    return (Checked(prop, times, values, newest) if values else None), problem


def _number_text(prop: ModelProperty, number: float) -> str:
    """Return a number as twins hold it, the same text as if a mapper had sent it as one."""
    whole = prop.type not in ("FLOAT", "DOUBLE") and number.is_integer() and abs(number) < 1 << 63
    return str(int(number)) if whole else repr(number)


def _event_id() -> str:
    return uuid.uuid4().hex
