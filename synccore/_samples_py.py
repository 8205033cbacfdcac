"""The specification of the compiled samples codec: names and readings of a block, and coalescing.

Same names, same order of checks and same errors as `_samples.pyx`; docs/protocol.md 8 describes the bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from struct import Struct
from typing import cast

from synccore.errors import FrameError
from synccore.series import (
    MAX_NAME_BYTES,
    MAX_NAMES_BYTES,
    MAX_READINGS,
    MAX_SERIES,
    MAX_TEXT_VALUE_BYTES,
    Series,
    Value,
    Values,
)

_FALSE, _TRUE, _INT, _TEXT, _DECIMAL, _FLOAT = 0, 1, 2, 3, 4, 7
_DOUBLE, _BITS = Struct("<d"), Struct("<Q")
_POWERS = (1.0, 10.0, 100.0, 1000.0)
# Five bytes of zigzag: a decimal beyond would save nothing.
_DECIMAL_LIMIT = float(1 << 34)
_MASK = (1 << 64) - 1
_SIGN = 1 << 63


def encode_names(names: Sequence[Series]) -> bytes:
    """Return the names of a block's series: texts with shared prefixes, then a pair of places for each.

    Raises:  FrameError: a name is outside the limits; `offset` is its place in `names`.
    """
    if len(names) > MAX_SERIES:
        raise FrameError("too many series", MAX_SERIES)
    devices: dict[str, int] = {}
    properties: dict[str, int] = {}
    size_bytes = 0
    for place, (device, prop) in enumerate(names):
        for text, seen in ((device, devices), (prop, properties)):
            if text in seen:
                continue
            seen[text] = len(seen)
            length = len(_utf8(text, place))
            if length > MAX_NAME_BYTES:
                raise FrameError("text is too long", place)
            size_bytes += length
            if size_bytes > MAX_NAMES_BYTES:
                raise FrameError("names are too long", place)
    out = bytearray()
    _put_uvarint(out, len(devices) + len(properties))
    before = b""
    for text in (*devices, *properties):
        encoded = text.encode()
        shared = _shared_bytes(before, encoded)
        _put_uvarint(out, shared)
        _put_uvarint(out, len(encoded) - shared)
        out += encoded[shared:]
        before = encoded
    _put_uvarint(out, len(names))
    at_device = expected = 0
    for device, prop in names:
        place_device, place_prop = devices[device], len(devices) + properties[prop]
        _put_uvarint(out, _zigzag(place_device - at_device))
        _put_uvarint(out, _zigzag(place_prop - expected))
        at_device, expected = place_device, place_prop + 1
    return bytes(out)


def decode_names(block: bytes, start: int, end: int) -> list[Series]:
    """Return the names that `block[start:end]` holds, and nothing else.

    Raises:  FrameError: `offset` is where the first bad text or pair starts.
    """
    assert 0 <= start <= end <= len(block)
    count, pos = _get_uvarint(block, start, end, start)
    if count > 2 * MAX_SERIES or count > (end - pos) // 2:  # a text is at least two bytes
        raise FrameError("too many texts", start)
    texts: list[str] = []
    before, size_bytes = b"", 0
    for _ in range(count):
        before, text, pos = _get_text(block, pos, end, before)
        size_bytes += len(before)
        if size_bytes > MAX_NAMES_BYTES:
            raise FrameError("names are too long", pos)
        texts.append(text)
    return _get_pairs(block, pos, end, texts)


def check_readings(
    series: array[int], times: array[int], values: Values, series_count: int
) -> None:
    """Check that columns can be encoded.

    Raises:  FrameError: a reading is outside the limits; `offset` is its place in the columns.
    """
    _check_columns(series, times, values, series_count)
    for place, (number, value) in enumerate(zip(series, values, strict=True)):
        if number >= series_count:
            raise FrameError("series is not in the block", place)
        _encode_value(value, place)


def encode_readings(
    series: array[int], times: array[int], values: Values, series_count: int
) -> bytes:
    """Return columns as the readings of a block.

    Raises:  FrameError: a reading is outside the limits; `offset` is its place in the columns.
    """
    _check_columns(series, times, values, series_count)
    out = bytearray()
    _put_uvarint(out, len(series))
    expected = before = 0
    for place, (number, time_ms, value) in enumerate(zip(series, times, values, strict=True)):
        if number >= series_count:
            raise FrameError("series is not in the block", place)
        tag, payload = _encode_value(value, place)
        _put_uvarint(out, _zigzag(number - expected) << 4 | tag)
        _put_uvarint(out, _zigzag(_signed(time_ms - before)))
        out += payload
        expected, before = number + 1, time_ms
    return bytes(out)


def decode_readings(
    block: bytes, start: int, series_count: int
) -> tuple[array[int], array[int], Values]:
    """Return the columns that `block` holds from `start` to its end.

    Raises:  FrameError: `offset` is where the first bad reading starts (`start`: their number).
    """
    assert 0 <= start <= len(block)
    end = len(block)
    count, pos = _get_uvarint(block, start, end, start)
    if count > MAX_READINGS or count > (end - pos) // 2:  # a reading is at least two bytes
        raise FrameError("too many readings", start)
    series, times, values = array("I"), array("q"), list[Value]()
    floats = True
    expected = time_ms = 0
    for _ in range(count):
        at = pos
        head, pos = _get_uvarint(block, pos, end, at)
        number = expected + _unzigzag(head >> 4)
        if not 0 <= number < series_count:
            raise FrameError("series is not in the block", at)
        delta_ms, pos = _get_uvarint(block, pos, end, at)
        value, pos = _decode_value(block, pos, end, head & 15, at)
        expected, time_ms = number + 1, _signed(time_ms + _unzigzag(delta_ms))
        floats = floats and type(value) is float
        series.append(number)
        times.append(time_ms)
        values.append(value)
    if pos != end:
        raise FrameError("bytes after the last reading", pos)
    return series, times, _doubles(values) if floats else values


def coalesce_readings(
    series: array[int], times: array[int], values: Values, series_count: int
) -> tuple[array[int], array[int], Values]:
    """Return the newest reading of each series, by series; of equal times the last one given counts.

    Raises:  FrameError: a series is not below `series_count`; `offset` is its place in the columns.
    """
    _check_columns(series, times, values, series_count)
    newest: dict[int, int] = {}
    for place, number in enumerate(series):
        held = newest.get(number)
        if held is None or times[place] >= times[held]:
            newest[number] = place
    order = sorted(newest)
    if order and order[-1] >= series_count:
        place = next(place for place, number in enumerate(series) if number >= series_count)
        raise FrameError("series is not in the block", place)
    places = [newest[number] for number in order]
    picked = [values[place] for place in places]
    return (
        array("I", order),
        array("q", [times[place] for place in places]),
        _doubles(picked) if isinstance(values, array) else picked,
    )


def compact_series(series: array[int], series_count: int) -> tuple[array[int], array[int]]:
    """Return the numbers that occur in `series`, ascending, and for each place the rank of its number in them.

    Raises:  FrameError: a series is not below `series_count`; `offset` is its place.
    """
    if series_count > MAX_SERIES:
        raise FrameError("too many series", MAX_SERIES)
    used = array("I", sorted(set(series)))
    if used and used[-1] >= series_count:
        place = next(place for place, number in enumerate(series) if number >= series_count)
        raise FrameError("series is not in the block", place)
    rank = {number: place for place, number in enumerate(used)}
    return used, array("I", [rank[number] for number in series])


def _check_columns(
    series: array[int], times: array[int], values: Values, series_count: int
) -> None:
    if not len(series) == len(times) == len(values):
        raise FrameError("columns differ in length", 0)
    if len(series) > MAX_READINGS:
        raise FrameError("too many readings", MAX_READINGS)
    if series_count > MAX_SERIES:
        raise FrameError("too many series", MAX_SERIES)


def _doubles(values: Sequence[Value]) -> array[float]:
    return array("d", cast("Sequence[float]", values))


def _encode_value(value: Value, place: int) -> tuple[int, bytes | bytearray]:
    payload = bytearray()
    kind = type(value)
    if kind is float:
        return _encode_float(value)  # type: ignore[arg-type]
    if kind is bool:
        return (_TRUE if value else _FALSE), payload
    if kind is int:
        if not -_SIGN <= value < _SIGN:  # type: ignore[operator]
            raise FrameError("number is not signed 64 bits", place)
        _put_uvarint(payload, _zigzag(value))  # type: ignore[arg-type]
        return _INT, payload
    if kind is str:
        encoded = _utf8(value, place)  # type: ignore[arg-type]
        if len(encoded) > MAX_TEXT_VALUE_BYTES:
            raise FrameError("text is too long", place)
        _put_uvarint(payload, len(encoded))
        return _TEXT, payload + encoded
    raise FrameError("value is of no known type", place)


def _encode_float(value: float) -> tuple[int, bytes | bytearray]:
    # Sensors report decimals: 21.37 is 2137 hundredths, two bytes instead of eight.
    scaled = value * 1000.0
    if -_DECIMAL_LIMIT < scaled < _DECIMAL_LIMIT:
        number = int(scaled - 0.5) if scaled < 0 else int(scaled + 0.5)
        if number / 1000.0 == value and (number or _DOUBLE.pack(value) == bytes(8)):
            power = 3
            while power and number % 10 == 0:
                number, power = number // 10, power - 1
            payload = bytearray()
            _put_uvarint(payload, _zigzag(number))
            return _DECIMAL + power, payload
    # Low bytes that are zero say nothing; the high ones follow, the least significant of them first.
    packed = _DOUBLE.pack(value).lstrip(b"\0")
    return _FLOAT + len(packed), packed


def _decode_value(block: bytes, pos: int, end: int, tag: int, at: int) -> tuple[Value, int]:
    if tag > _FLOAT:
        length = tag - _FLOAT
        if length > end - pos:
            raise FrameError("block is cut", at)
        return _DOUBLE.unpack(block[pos : pos + length].rjust(8, b"\0"))[0], pos + length
    if tag >= _DECIMAL:
        number, pos = _get_uvarint(block, pos, end, at)
        return _unzigzag(number) / _POWERS[tag - _DECIMAL], pos
    if tag == _TEXT:
        length, pos = _get_uvarint(block, pos, end, at)
        if length > MAX_TEXT_VALUE_BYTES:
            raise FrameError("text is too long", at)
        if length > end - pos:
            raise FrameError("block is cut", at)
        return _text(block[pos : pos + length], at), pos + length
    if tag == _INT:
        number, pos = _get_uvarint(block, pos, end, at)
        return _unzigzag(number), pos
    return tag == _TRUE, pos


def _get_text(block: bytes, pos: int, end: int, before: bytes) -> tuple[bytes, str, int]:
    at = pos
    shared, pos = _get_uvarint(block, pos, end, at)
    length, pos = _get_uvarint(block, pos, end, at)
    if shared > len(before):
        raise FrameError("shared prefix is too long", at)
    if length > MAX_NAME_BYTES - shared:
        raise FrameError("text is too long", at)
    if length > end - pos:
        raise FrameError("block is cut", at)
    encoded = before[:shared] + block[pos : pos + length]
    return encoded, _text(encoded, at), pos + length


def _get_pairs(block: bytes, pos: int, end: int, texts: list[str]) -> list[Series]:
    at = pos
    count, pos = _get_uvarint(block, pos, end, at)
    if count > MAX_SERIES or count > (end - pos) // 2:  # a pair is at least two bytes
        raise FrameError("too many series", at)
    names: list[Series] = []
    device = expected = 0
    for _ in range(count):
        at = pos
        first, pos = _get_uvarint(block, pos, end, at)
        second, pos = _get_uvarint(block, pos, end, at)
        device = device + _unzigzag(first)
        prop = expected + _unzigzag(second)
        if not 0 <= device < len(texts) or not 0 <= prop < len(texts):
            raise FrameError("text is not in the block", at)
        names.append(Series(texts[device], texts[prop]))
        expected = prop + 1
    if pos != end:
        raise FrameError("bytes after the last series", pos)
    return names


def _utf8(text: str, place: int) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise FrameError("text is not UTF-8", place) from None


def _text(encoded: bytes, at: int) -> str:
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        raise FrameError("text is not UTF-8", at) from None


def _shared_bytes(one: bytes, other: bytes) -> int:
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    return shared


def _zigzag(value: int) -> int:
    return ((value << 1) ^ (value >> 63)) & _MASK


def _unzigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _signed(value: int) -> int:
    """Return `value` modulo 2**64 as a signed number: times wrap, as they do in the compiled twin."""
    return (value + _SIGN & _MASK) - _SIGN


def _put_uvarint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _get_uvarint(block: bytes, pos: int, end: int, at: int) -> tuple[int, int]:
    """Return (value, position after it); at most ten bytes, value below 2**64, errors name `at`."""
    value = shift = 0
    while True:
        if pos == end:
            raise FrameError("block is cut", at)
        byte = block[pos]
        pos += 1
        if shift == 63 and byte > 1:  # the tenth byte has room for one bit
            raise FrameError("number is too large", at)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
