"""What mappers report, into the twins: durable first, answered second."""

from __future__ import annotations

import uuid
from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol, TypeVar

from devicemodels.objects import DeviceModel
from devicemodels.twin import Reading
from devicemodels.values import DeviceModelError, parse_value
from edgecore.devicetwin.batch import Batch
from edgecore.eventbus.payloads import PayloadError
from edgecore.eventbus.topics import Asked, Request

T = TypeVar("T")
ERROR = "error"  # metadata of an observed desired value that the device has refused


class Transacting(Protocol):
    """The twins, as seen by who reports in this process."""

    async def transact(self, work: Callable[[Batch], T]) -> T:
        """Do `work` on a batch; return once it is stored. Raises: NotStoredError."""


class Row(NamedTuple):
    """One reading. Shapes: device: "namespace/name"; text: as on every other wire. Units: time_ms: Unix."""

    device: str
    property: str
    time_ms: int
    text: str


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

    async def readings(self, rows: Iterable[Row]) -> Taken:
        """Take readings of any devices, oldest first: the newest of each property into its twin, every one on.

        What a model forbids is refused by itself. Raises: NotStoredError.
        """
        by_device: dict[str, dict[str, list[Row]]] = {}
        for row in rows:
            by_device.setdefault(row.device, {}).setdefault(row.property, []).append(row)
        return await self._twins.transact(lambda batch: _merge(batch, by_device))


def _merge(batch: Batch, by_device: Mapping[str, Mapping[str, list[Row]]]) -> Taken:
    taken = refused = 0
    reason = ""
    for device_id, columns in by_device.items():
        try:
            model = batch.model_of(device_id)
        except PayloadError as exc:
            refused += sum(map(len, columns.values()))
            reason = reason or exc.reason
            continue
        newest: dict[str, Reading] = {}
        for name, rows in columns.items():
            good, problem = _allowed(device_id, model, name, rows)
            taken, refused = taken + len(good), refused + len(rows) - len(good)
            reason = reason or problem
            if good:
                newest[name] = Reading(reported=good[-1].text)
                for row in good[:-1]:  # the newest one is streamed by its merge
                    batch.stream(model, row.device, row.property, row.time_ms, row.text)
        if newest:
            batch.merge(device_id, newest)
    return Taken(taken, refused, reason)


def _allowed(
    device_id: str, model: DeviceModel, name: str, rows: list[Row]
) -> tuple[list[Row], str]:
    """Return the rows that the model allows, and the reason of the first one that it does not."""
    prop = model.property(name)
    if prop is None:
        return [], f"device {device_id}: property {name[:64]!r}: is not in its model"
    good, problem = [], ""
    for row in rows:
        try:
            parse_value(device_id, prop, row.text)
        except DeviceModelError as exc:
            problem = problem or str(exc)
        else:
            good.append(row)
    return good, problem


def _event_id() -> str:
    return uuid.uuid4().hex


def column(code: str, raw: bytes) -> array[int] | array[float]:
    """Return a little-endian column of a message. Raises: ValueError: half an item."""
    items: array[int] | array[float] = array(code)
    items.frombytes(raw)
    return items
