"""From what a device says to the value of its property, and back: mask, scale, offset; byte order of raw registers.

Pure. A driver's point schema takes them in by inheriting `Transform`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal

import msgspec

from mappers.sdk.driver import Value

Order = Literal["big", "little"]
DataType = Literal[
    "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "string"
]
_FORMATS: dict[str, str] = {
    "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
    "float32": "f", "float64": "d",
}  # fmt: skip


class Transform(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """value = (raw & mask, moved right to its lowest bit) x scale + offset.

    Shapes:  mask: 0 takes all bits; of whole numbers only.
    """

    mask: int = 0
    scale: float = 1.0
    offset: float = 0.0

    @property
    def is_linear(self) -> bool:
        """Whether a number comes out other than it went in, mask aside."""
        return self.scale != 1.0 or self.offset != 0.0


def apply(transform: Transform, raw: Value) -> Value:
    """Return the property's value of what the device said; texts, bytes and booleans stay as they are."""
    if isinstance(raw, str | bytes | bool):
        return raw
    if transform.mask and isinstance(raw, int):
        raw = (raw & transform.mask) >> _shift(transform.mask)
    if not transform.is_linear:
        return raw
    value = raw * transform.scale + transform.offset
    # Twelve digits are more than any sensor has; without this 3 x 0.1 reads 0.30000000000000004.
    return float(f"{value:.12g}")


def undo(transform: Transform, value: Value, current_raw: int = 0) -> Value:
    """Return what the device must be told so that it says `value`; bits outside the mask stay as in `current_raw`.

    Raises:  ValueError: the value does not fit the mask.
    """
    if isinstance(value, str | bytes | bool):
        return value
    raw: int | float = value
    if transform.is_linear:
        if transform.scale == 0:
            raise ValueError("a scale of 0 cannot be undone")
        raw = float(f"{(value - transform.offset) / transform.scale:.12g}")
    if not transform.mask:
        return raw
    shifted = round(raw) << _shift(transform.mask)
    if shifted & ~transform.mask or raw < 0:
        raise ValueError(f"{value!r} does not fit the mask {transform.mask:#x}")
    return (current_raw & ~transform.mask) | shifted


def _shift(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def words_of(data_type: DataType, text_bytes: int = 0) -> int:
    """Return how many 16-bit words a value takes."""
    if data_type == "string":
        return (text_bytes + 1) // 2
    return max(struct.calcsize(f">{_FORMATS[data_type]}") // 2, 1)


def from_words(
    words: list[int], data_type: DataType, byte_order: Order, word_order: Order
) -> Value:
    """Return the number or text in 16-bit words. Raises: ValueError: not that many words, or no text."""
    ordered = words if word_order == "big" else list(reversed(words))
    raw = b"".join(word.to_bytes(2, byte_order) for word in ordered)
    if data_type == "string":
        return raw.rstrip(b"\0").decode()
    if len(words) != words_of(data_type):
        raise ValueError(f"{len(words)} words are no {data_type}")
    value: int | float = struct.unpack(f">{_FORMATS[data_type]}", raw)[0]
    # A float32 is told with the digits it has, not with those of the float64 next to it.
    return float(f"{value:.7g}") if data_type == "float32" else value


def to_words(
    value: Value, data_type: DataType, byte_order: Order, word_order: Order, text_bytes: int = 0
) -> list[int]:
    """Return `value` as 16-bit words. Raises: ValueError: it does not fit."""
    if data_type == "string":
        raw = str(value).encode().ljust(2 * words_of(data_type, text_bytes), b"\0")
        if len(raw) > 2 * words_of(data_type, text_bytes):
            raise ValueError(f"text of {len(raw)} bytes is longer than {text_bytes}")
    else:
        raw = _pack(value, data_type)
    words = [int.from_bytes(raw[at : at + 2], byte_order) for at in range(0, len(raw), 2)]
    return words if word_order == "big" else list(reversed(words))


def _pack(value: Value, data_type: DataType) -> bytes:
    if isinstance(value, str | bytes):
        raise ValueError(f"{value!r} is no number")
    whole: Callable[[Value], Value] = lambda v: v if data_type.startswith("float") else round(v)  # type: ignore[arg-type]  # noqa: E731
    try:
        return struct.pack(f">{_FORMATS[data_type]}", whole(value))
    except (struct.error, OverflowError) as exc:
        raise ValueError(f"{value!r} does not fit {data_type}") from exc
