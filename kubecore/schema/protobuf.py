"""Decode a request body in protobuf into the JSON object that the same client would have sent as JSON.

kubectl 1.32 and newer send most of what they create this way. Only decoding: every client takes JSON answers.
Source:  https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
"""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

from kubecore.kinds.definitions.proto_fields import ProtoField, fields_of, message_of
from kubecore.schema.protobuf_values import NUMBERS, SPECIAL, number_of
from kubecore.schema.protobuf_wire import ProtobufError, entries, text_of, varint

__all__ = ["MAGIC", "ProtobufError", "decode_protobuf"]

Object = dict[str, Any]
MAGIC = b"k8s\x00"
# As the JSON decoder: a body nested deeper than any kind is an attack or a mistake.
MAX_DEPTH = 100
# An empty message is two bytes on the wire and a dict in memory: 3 MiB of them would be 100 MB.
MAX_VALUES = 200_000


def decode_protobuf(raw: bytes) -> Object:
    """Return the object in `raw`, apiVersion and kind included.

    Raises:  ProtobufError: malformed, too deep, too many values, or of a kind that is not known here.
    """
    if not raw.startswith(MAGIC):
        raise ProtobufError("it does not start with the bytes 'k8s' and 0")
    api_version, kind, body = _envelope(raw[len(MAGIC) :])
    message = message_of(api_version, kind)
    if message is None:
        raise ProtobufError(f"the kind {kind[:80]!r} of {api_version[:80]!r} is taken as JSON only")
    decoded = _Walk().message(message, body, 0)
    return {"apiVersion": api_version, "kind": kind, **decoded}


def _envelope(raw: bytes) -> tuple[str, str, bytes]:
    """Return apiVersion, kind and the bytes of the object: the message runtime.Unknown."""
    parts = {number: value for number, value in entries(raw) if isinstance(value, bytes)}
    if parts.get(3):
        raise ProtobufError("its content is encoded once more")
    types = {n: v for n, v in entries(parts.get(1, b"")) if isinstance(v, bytes)}
    return text_of(types.get(1, b"")), text_of(types.get(2, b"")), parts.get(2, b"")


class _Walk:
    """Decodes one body; counts what it makes."""

    def __init__(self) -> None:
        self.count = 0

    def message(self, name: str, raw: bytes, depth: int) -> Object:
        if depth > MAX_DEPTH:
            raise ProtobufError(f"it is nested deeper than {MAX_DEPTH} levels")
        fields = fields_of(name)
        out: Object = {}
        for number, value in entries(raw):
            self.tick()
            known = fields.get(number)
            if known is not None:  # others are of a newer Kubernetes: ignored, as upstream does
                self._take(out, known, value, depth)
        return out

    def tick(self) -> None:
        self.count += 1
        if self.count > MAX_VALUES:
            raise ProtobufError(f"it has more than {MAX_VALUES} values")

    def _take(self, out: Object, field: ProtoField, value: int | bytes, depth: int) -> None:
        if field.map:
            key, item = self._map_entry(field.type, _raw(value), depth)
            out.setdefault(field.name, {})[key] = item
        elif field.repeated:
            out.setdefault(field.name, []).extend(self._items(field.type, value, depth))
        elif field.inline:
            out.update(self.message(field.type[1:], _raw(value), depth + 1))
        else:
            item = self._value(field.type, value, depth)
            if item is None or (field.omit_zero and item in ("", 0)):
                out.pop(field.name, None)
            else:
                out[field.name] = item

    def _items(self, kind: str, value: int | bytes, depth: int) -> list[Any]:
        """Return what one entry adds to a list: one item, or (numbers may be packed) several."""
        if kind not in NUMBERS or isinstance(value, int):
            return [self._value(kind, value, depth)]
        items, pos = [], 0
        while pos < len(value):
            self.tick()
            number, pos = varint(value, pos)
            items.append(number_of(kind, number))
        return items

    def _map_entry(self, kind: str, raw: bytes, depth: int) -> tuple[str, Any]:
        # A zero may be left out of the entry.
        parts: dict[int, int | bytes] = {1: b"", 2: 0 if kind in NUMBERS else b""}
        parts.update(entries(raw))
        return text_of(_raw(parts[1])), self._value(kind, parts[2], depth)

    def _value(self, kind: str, value: int | bytes, depth: int) -> Any:
        if kind in NUMBERS:
            if isinstance(value, bytes):
                raise ProtobufError(f"a field of type {kind} is no number")
            return number_of(kind, value)
        raw = _raw(value)
        if kind == "string":
            return text_of(raw)
        if kind == "bytes":
            return base64.b64encode(raw).decode()
        if kind == "double":
            return _double(raw)
        if special := SPECIAL.get(kind):
            return special(raw)
        return self.message(kind[1:], raw, depth + 1)


def _raw(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ProtobufError("a number stands where text or a message belongs")
    return value


def _double(raw: bytes) -> float:
    number: float = struct.unpack("<d", raw)[0] if len(raw) == 8 else float("nan")
    if not math.isfinite(number):
        raise ProtobufError("a field of type double is no number that JSON has")
    return number
