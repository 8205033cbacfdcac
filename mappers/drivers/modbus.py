"""`modbus`: Modbus TCP and RTU, neighbouring registers read in one request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from mappers.sdk import (
    DeviceUnreachableError,
    Driver,
    Point,
    PointFault,
    Value,
    WriteRefusedError,
)
from mappers.sdk.transforms import (
    DataType,
    Order,
    Transform,
    apply,
    from_words,
    to_words,
    undo,
    words_of,
)

Register = Literal["coil", "discrete", "input", "holding"]
# Of one request, by the protocol's specification.
MAX_WORDS, MAX_BITS = 125, 2000
_READS = {
    "coil": "read_coils",
    "discrete": "read_discrete_inputs",
    "input": "read_input_registers",
    "holding": "read_holding_registers",
}


class ModbusConfig(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Shapes: host, port: of TCP; serialPort: of RTU, and then no host. gap: registers nobody wants that are read
    all the same if that saves a request. Units: timeoutS: of one request.
    """

    host: str = ""
    port: int = 502
    serial_port: str = ""
    baud_rate: int = 9600
    parity: Literal["N", "E", "O"] = "N"
    data_bits: Literal[7, 8] = 8
    stop_bits: Literal[1, 2] = 1
    unit: int = 1
    timeout_s: float = 3.0
    gap: int = 8

    def __post_init__(self) -> None:
        """Refuse what names no device, or two."""
        if bool(self.host) == bool(self.serial_port):
            raise ValueError("exactly one of host (TCP) and serialPort (RTU) is needed")
        if not 0 <= self.unit <= 247:
            raise ValueError(f"unit {self.unit} is outside 0 to 247")


class ModbusPoint(Transform, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shapes: address: from 0. dataType: of registers, int16 and so on; length: bytes of a string."""

    register: Register = "holding"
    address: int
    data_type: DataType = "int16"
    byte_order: Order = "big"
    word_order: Order = "big"
    length: int = 0

    def __post_init__(self) -> None:
        """Refuse what lies outside the address space."""
        if not 0 <= self.address <= 65535 or self.address + self.word_count > 65536:
            raise ValueError(f"address {self.address} is outside 0 to 65535")
        if self.data_type == "string" and not 0 < self.length <= 2 * MAX_WORDS:
            raise ValueError(f"a string needs a length of 1 to {2 * MAX_WORDS} bytes")

    @property
    def is_bit(self) -> bool:
        """Whether it is one bit and no register."""
        return self.register in ("coil", "discrete")

    @property
    def word_count(self) -> int:
        """Registers, or bits, that it takes."""
        return 1 if self.is_bit else words_of(self.data_type, self.length)


@dataclass(frozen=True)
class Span:
    """Neighbouring points that are read in one request."""

    register: Register
    address: int
    count: int
    points: tuple[Point[ModbusPoint], ...]


def spans(points: Sequence[Point[ModbusPoint]], gap: int) -> Iterator[Span]:
    """Yield the requests that read `points`: as few as the limits of the protocol and `gap` allow."""
    ordered = sorted(points, key=lambda p: (p.config.register, p.config.address))
    group: list[Point[ModbusPoint]] = []
    for point in ordered:
        if group and not _joins(group, point, gap):
            yield _span(group)
            group = []
        group.append(point)
    if group:
        yield _span(group)


def _joins(group: list[Point[ModbusPoint]], point: Point[ModbusPoint], gap: int) -> bool:
    first, config = group[0].config, point.config
    end = max(p.config.address + p.config.word_count for p in group)
    limit = MAX_BITS if config.is_bit else MAX_WORDS
    length = max(end, config.address + config.word_count) - first.address
    return config.register == first.register and config.address - end <= gap and length <= limit


def _span(group: list[Point[ModbusPoint]]) -> Span:
    first = group[0].config
    end = max(p.config.address + p.config.word_count for p in group)
    return Span(first.register, first.address, end - first.address, tuple(group))


class ModbusDriver(Driver[ModbusConfig, ModbusPoint]):
    """One unit behind one connection."""

    Config, PointConfig = ModbusConfig, ModbusPoint

    async def open(self) -> None:
        """Connect."""
        config = self.config
        # One try a request, and no reconnecting behind our back: back-off and state are the caller's.
        common: dict[str, Any] = {"timeout": config.timeout_s, "retries": 0, "reconnect_delay": 0}
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient
        if config.host:
            self._client = AsyncModbusTcpClient(config.host, port=config.port, **common)
        else:
            self._client = AsyncModbusSerialClient(
                config.serial_port,
                baudrate=config.baud_rate,
                parity=config.parity,
                bytesize=config.data_bits,
                stopbits=config.stop_bits,
                **common,
            )
        if not await self._client.connect():
            where = config.serial_port or f"{config.host}:{config.port}"
            raise DeviceUnreachableError(self.device, f"{where} does not answer")

    async def read(self, points: Sequence[Point[ModbusPoint]]) -> Mapping[str, Value | PointFault]:
        """Read all points, neighbours together; a span that is refused is read one by one, to find who is to blame."""
        values: dict[str, Value | PointFault] = {}
        for span in spans(points, self.config.gap):
            words = await self._read(span.register, span.address, span.count)
            if isinstance(words, PointFault) and len(span.points) > 1:
                for point in span.points:
                    config = point.config
                    alone = await self._read(config.register, config.address, config.word_count)
                    values[point.name] = _value(point, alone, config.address)
                continue
            for point in span.points:
                values[point.name] = _value(point, words, span.address)
        return values

    async def write(self, point: Point[ModbusPoint], value: Value) -> None:
        """Write a coil or registers; within a mask the other bits stay."""
        config = point.config
        if config.register in ("discrete", "input"):
            raise WriteRefusedError(self.device, f"{config.register} registers cannot be written")
        unit = {"device_id": self.config.unit}
        if config.register == "coil":
            answer = await self._ask(self._client.write_coil, config.address, bool(value), **unit)
        else:
            try:
                raw = undo(config, value, await self._current(point) if config.mask else 0)
                words = to_words(
                    raw, config.data_type, config.byte_order, config.word_order, config.length
                )
            except ValueError as exc:
                raise WriteRefusedError(self.device, str(exc)) from exc
            answer = await self._ask(self._client.write_registers, config.address, words, **unit)
        if answer.isError():
            raise WriteRefusedError(self.device, f"{config.register} {config.address}: {answer}")

    async def close(self) -> None:
        """Disconnect."""
        client = getattr(self, "_client", None)
        if client is not None:
            client.close()

    async def _current(self, point: Point[ModbusPoint]) -> int:
        config = point.config
        words = await self._read(config.register, config.address, config.word_count)
        if isinstance(words, PointFault):
            raise WriteRefusedError(self.device, words.reason)
        raw = from_words(words, config.data_type, config.byte_order, config.word_order)
        return raw if isinstance(raw, int) else 0

    async def _read(self, register: Register, address: int, count: int) -> list[int] | PointFault:
        method = getattr(self._client, _READS[register])
        answer = await self._ask(method, address, count=count, device_id=self.config.unit)
        if answer.isError():
            return PointFault(f"{register} {address}: {answer}")
        found = answer.bits if register in ("coil", "discrete") else answer.registers
        return [int(one) for one in found[:count]]

    async def _ask(self, method: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return await method(*arguments, **named)
        except (ModbusException, OSError) as exc:
            raise DeviceUnreachableError(self.device, str(exc)) from exc


def _value(
    point: Point[ModbusPoint], words: list[int] | PointFault, begin: int
) -> Value | PointFault:
    if isinstance(words, PointFault):
        return words
    config = point.config
    own = words[config.address - begin :][: config.word_count]
    if config.is_bit:
        return bool(own and own[0])
    try:
        raw = from_words(own, config.data_type, config.byte_order, config.word_order)
    except ValueError as exc:
        return PointFault(f"{config.register} {config.address}: {exc}")
    return apply(config, raw)
