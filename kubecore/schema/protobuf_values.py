"""The values of protobuf as JSON: numbers, and the messages that JSON writes in a form of their own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec

from kubecore.schema.protobuf_wire import ProtobufError, entries, text_of

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - every time here is UTC, and written with a Z
_SIGNED = {"int32": 32, "int64": 64}
NUMBERS = frozenset({"bool", "int32", "int64", "uint32", "uint64"})


def number_of(kind: str, value: int) -> int | bool:
    """Return the varint `value` as the scalar `kind`."""
    if kind == "bool":
        return value != 0
    bits = _SIGNED.get(kind)
    if bits is None:
        return value
    value &= (1 << bits) - 1  # a negative int32 comes in 64 bits
    return value - (1 << bits) if value >> (bits - 1) else value


def _time(raw: bytes) -> str | None:
    return _stamp(raw, micro=False)


def _micro_time(raw: bytes) -> str | None:
    return _stamp(raw, micro=True)


def _stamp(raw: bytes, *, micro: bool) -> str | None:
    if not raw:  # Go's zero time, null in JSON
        return None
    parts = _varints(raw)
    seconds = number_of("int64", parts.get(1, 0))
    nanoseconds = number_of("int32", parts.get(2, 0)) if micro else 0
    try:
        when = _EPOCH + dt.timedelta(seconds=seconds, microseconds=nanoseconds // 1000)
    except OverflowError as exc:
        raise ProtobufError(f"the time {seconds} is out of range") from exc
    return when.isoformat(timespec="microseconds" if micro else "seconds") + "Z"


def _quantity(raw: bytes) -> str:
    # An empty quantity is 0 to Go.
    return text_of(_byte_parts(raw).get(1, b"")) or "0"


def _int_or_string(raw: bytes) -> int | str:
    if _varints(raw).get(1, 0) == 1:
        return text_of(_byte_parts(raw).get(3, b""))
    return int(number_of("int32", _varints(raw).get(2, 0)))


def _json(raw: bytes) -> Any:
    """What the client had as JSON: in RawExtension, FieldsV1 and JSON."""
    body = _byte_parts(raw).get(1, b"")
    if not body:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise ProtobufError(f"JSON in it cannot be read: {exc}") from exc


def _strings(raw: bytes) -> list[str]:
    return [text_of(v) for n, v in entries(raw) if n == 1 and isinstance(v, bytes)]


def _varints(raw: bytes) -> dict[int, int]:
    return {n: v for n, v in entries(raw) if isinstance(v, int)}


def _byte_parts(raw: bytes) -> dict[int, bytes]:
    return {n: v for n, v in entries(raw) if isinstance(v, bytes)}


_META = ".apimachinery.pkg.apis.meta.v1."
SPECIAL: dict[str, Callable[[bytes], Any]] = {
    _META + "Time": _time,
    _META + "MicroTime": _micro_time,
    _META + "FieldsV1": _json,
    _META + "Verbs": _strings,
    ".apimachinery.pkg.api.resource.Quantity": _quantity,
    ".apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
    ".apimachinery.pkg.runtime.RawExtension": _json,
    **{f".api.{group}.v1.ExtraValue": _strings for group in ("authentication", "authorization")},
    ".api.certificates.v1.ExtraValue": _strings,
}
