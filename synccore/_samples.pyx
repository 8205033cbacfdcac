# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled samples codec. `_samples_py.py` is its specification: same names, order of checks, and errors."""

from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

import array as array_module
import sys

from synccore.errors import FrameError
from synccore.series import (
    MAX_NAME_BYTES,
    MAX_NAMES_BYTES,
    MAX_READINGS,
    MAX_SERIES,
    MAX_TEXT_VALUE_BYTES,
    Series,
)

if sys.byteorder != "little":
    raise ImportError("synccore._samples needs a little-endian machine; SYNCCORE_PUREPY=1 runs anywhere")

cdef Py_ssize_t READINGS_LIMIT = MAX_READINGS
cdef Py_ssize_t SERIES_LIMIT = MAX_SERIES
cdef uint64_t NAME_LIMIT = MAX_NAME_BYTES
cdef Py_ssize_t NAMES_LIMIT = MAX_NAMES_BYTES
cdef uint64_t TEXT_LIMIT = MAX_TEXT_VALUE_BYTES
cdef object new_tuple = tuple.__new__
cdef array.array UINTS = array_module.array("I")
cdef array.array INT64S = array_module.array("q")
cdef array.array DOUBLES = array_module.array("d")

cdef enum:
    VARINT_OK = 0
    VARINT_CUT = 1
    VARINT_LARGE = 2
    TAG_FALSE = 0
    TAG_TRUE = 1
    TAG_INT = 2
    TAG_TEXT = 3
    TAG_DECIMAL = 4
    TAG_FLOAT = 7
    # head (series difference below 2**18, shifted by 4), time, value: never more, but for a text's bytes.
    READING_BYTES = 4 + 10 + 10
    COUNT_BYTES = 5

cdef double DECIMAL_LIMIT = <double>(<uint64_t>1 << 34)


cdef inline int get_uvarint(const uint8_t* data, Py_ssize_t* pos, Py_ssize_t end, uint64_t* value) noexcept nogil:
    cdef uint64_t result = 0
    cdef unsigned int shift = 0
    cdef uint8_t byte
    value[0] = 0
    while True:
        if pos[0] == end:
            return VARINT_CUT
        byte = data[pos[0]]
        pos[0] += 1
        if shift == 63 and byte > 1:
            return VARINT_LARGE
        result |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            value[0] = result
            return VARINT_OK
        shift += 7


cdef inline uint8_t* put_uvarint(uint8_t* out, uint64_t value) noexcept nogil:
    while value > 0x7F:
        out[0] = <uint8_t>(value & 0x7F | 0x80)
        out += 1
        value >>= 7
    out[0] = <uint8_t>value
    return out + 1


cdef inline uint64_t zigzag(uint64_t value) noexcept nogil:
    return (value << 1) ^ (0 - (value >> 63))


cdef inline uint64_t unzigzag(uint64_t value) noexcept nogil:
    return (value >> 1) ^ (0 - (value & 1))


cdef int raise_varint(int problem, Py_ssize_t at) except -1:
    raise FrameError("block is cut" if problem == VARINT_CUT else "number is too large", at)


cdef inline Py_ssize_t take_uvarint(
    const uint8_t* data, Py_ssize_t pos, Py_ssize_t end, uint64_t* value, Py_ssize_t at
) except -1:
    cdef int problem = get_uvarint(data, &pos, end, value)
    if problem:
        raise_varint(problem, at)
    return pos


cdef const char* utf8_of(str text, Py_ssize_t* length, Py_ssize_t place) except NULL:
    try:
        return PyUnicode_AsUTF8AndSize(text, length)
    except UnicodeEncodeError:
        raise FrameError("text is not UTF-8", place) from None


cdef str text_of(const char* encoded, Py_ssize_t length, Py_ssize_t at):
    try:
        return PyUnicode_DecodeUTF8(encoded, length, NULL)
    except UnicodeDecodeError:
        raise FrameError("text is not UTF-8", at) from None


def encode_names(names not None):
    cdef dict devices = {}, properties = {}, seen
    cdef Py_ssize_t place = 0, size = 0, length, shared, before_length = 0, part, bound
    cdef const char* text
    cdef const char* before = NULL
    cdef uint64_t at_device = 0, expected = 0, place_device, place_prop
    cdef uint8_t* begin
    cdef uint8_t* out
    cdef bytes encoded
    cdef str device, prop, word
    if len(names) > SERIES_LIMIT:
        raise FrameError("too many series", SERIES_LIMIT)
    for device, prop in names:
        for part in range(2):
            word, seen = (prop, properties) if part else (device, devices)
            if word in seen:
                continue
            seen[word] = len(seen)
            utf8_of(word, &length, place)
            if <uint64_t>length > NAME_LIMIT:
                raise FrameError("text is too long", place)
            size += length
            if size > NAMES_LIMIT:
                raise FrameError("names are too long", place)
        place += 1
    # Two lengths of at most two bytes a text, two differences below 2**19 a series, two counts.
    bound = size + 4 * (len(devices) + len(properties)) + 6 * place + 2 * COUNT_BYTES
    encoded = PyBytes_FromStringAndSize(NULL, bound)
    begin = out = <uint8_t*>PyBytes_AS_STRING(encoded)
    out = put_uvarint(out, len(devices) + len(properties))
    for seen in (devices, properties):
        for word in seen:
            text = PyUnicode_AsUTF8AndSize(word, &length)
            shared = 0
            while shared < length and shared < before_length and text[shared] == before[shared]:
                shared += 1
            out = put_uvarint(out, shared)
            out = put_uvarint(out, length - shared)
            memcpy(out, text + shared, length - shared)
            out += length - shared
            before, before_length = text, length
    out = put_uvarint(out, place)
    for device, prop in names:
        place_device = devices[device]
        place_prop = <uint64_t>len(devices) + <uint64_t>properties[prop]
        out = put_uvarint(out, zigzag(place_device - at_device))
        out = put_uvarint(out, zigzag(place_prop - expected))
        at_device, expected = place_device, place_prop + 1
    return encoded[:out - begin]


def decode_names(bytes block not None, Py_ssize_t start, Py_ssize_t end):
    cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(block)
    cdef Py_ssize_t pos, at, size = 0, before_length = 0
    cdef uint64_t count, number, shared, length, first, second, device = 0, expected = 0
    cdef list texts = [], names = []
    cdef char before[512]
    assert 0 <= start <= end <= PyBytes_GET_SIZE(block)
    assert NAME_LIMIT == sizeof(before)
    pos = take_uvarint(data, start, end, &count, start)
    if count > <uint64_t>(2 * SERIES_LIMIT) or count > <uint64_t>(end - pos) // 2:
        raise FrameError("too many texts", start)
    for number in range(count):
        at = pos
        pos = take_uvarint(data, pos, end, &shared, at)
        pos = take_uvarint(data, pos, end, &length, at)
        if shared > <uint64_t>before_length:
            raise FrameError("shared prefix is too long", at)
        if length > NAME_LIMIT - shared:
            raise FrameError("text is too long", at)
        if length > <uint64_t>(end - pos):
            raise FrameError("block is cut", at)
        memcpy(before + shared, data + pos, length)
        pos += <Py_ssize_t>length
        before_length = <Py_ssize_t>(shared + length)
        texts.append(text_of(before, before_length, at))
        size += before_length
        if size > NAMES_LIMIT:
            raise FrameError("names are too long", pos)
    at = pos
    pos = take_uvarint(data, pos, end, &count, at)
    if count > <uint64_t>SERIES_LIMIT or count > <uint64_t>(end - pos) // 2:
        raise FrameError("too many series", at)
    length = len(texts)
    for number in range(count):
        at = pos
        pos = take_uvarint(data, pos, end, &first, at)
        pos = take_uvarint(data, pos, end, &second, at)
        device += unzigzag(first)  # unsigned: a sum outside wraps to something large
        expected += unzigzag(second)
        if device >= length or expected >= length:
            raise FrameError("text is not in the block", at)
        names.append(
            new_tuple(Series, (texts[<Py_ssize_t>device], texts[<Py_ssize_t>expected]))
        )
        expected += 1
    if pos != end:
        raise FrameError("bytes after the last series", pos)
    return names


cdef inline int decimal_of(double value, int64_t* number) noexcept nogil:
    """Return the tag of `value` as a decimal with `number`, or 0 if it is none."""
    cdef double scaled = value * 1000.0
    cdef int tag = TAG_DECIMAL + 3
    cdef int64_t found
    if not (-DECIMAL_LIMIT < scaled < DECIMAL_LIMIT):
        return 0
    found = <int64_t>(scaled - 0.5) if scaled < 0 else <int64_t>(scaled + 0.5)
    if <double>found / 1000.0 != value:
        return 0
    if found == 0:
        if bits_of(value):  # -0.0
            return 0
        number[0] = 0
        return TAG_DECIMAL
    while tag > TAG_DECIMAL and found % 10 == 0:
        found //= 10
        tag -= 1
    number[0] = found
    return tag


cdef inline uint64_t bits_of(double value) noexcept nogil:
    cdef uint64_t bits
    memcpy(&bits, &value, 8)
    return bits


cdef inline uint8_t* put_float_reading(
    uint8_t* out, uint64_t step, uint64_t time_step, double value
) noexcept nogil:
    cdef int64_t number
    cdef uint64_t bits
    cdef int length, tag = decimal_of(value, &number)
    if tag:
        out = put_uvarint(out, step << 4 | <uint64_t>tag)
        out = put_uvarint(out, time_step)
        return put_uvarint(out, zigzag(<uint64_t>number))
    bits = bits_of(value)
    length = 8
    while bits & 0xFF == 0:  # never 0: that is a decimal
        bits >>= 8
        length -= 1
    out = put_uvarint(out, step << 4 | <uint64_t>(TAG_FLOAT + length))
    out = put_uvarint(out, time_step)
    memcpy(out, &bits, 8)  # there is room: READING_BYTES counts ten for each value
    return out + length


def check_readings(
    const uint32_t[::1] series not None,
    const int64_t[::1] times not None,
    values not None,
    Py_ssize_t series_count,
):
    check_columns(series, times, values, series_count)
    if isinstance(values, array.array):
        check_series(series, series_count)
    else:
        check_objects(series, values if type(values) is list else list(values), series_count)


def encode_readings(
    const uint32_t[::1] series not None,
    const int64_t[::1] times not None,
    values not None,
    Py_ssize_t series_count,
):
    cdef Py_ssize_t count = series.shape[0], place, bound = COUNT_BYTES + READING_BYTES * count
    cdef uint64_t expected = 0, before = 0
    cdef const double[::1] doubles
    cdef list objects
    cdef bytes encoded
    cdef uint8_t* begin
    cdef uint8_t* out
    check_columns(series, times, values, series_count)
    if isinstance(values, array.array):
        doubles = values
        check_series(series, series_count)
        encoded = PyBytes_FromStringAndSize(NULL, bound)
        begin = out = <uint8_t*>PyBytes_AS_STRING(encoded)
        out = put_uvarint(out, count)
        for place in range(count):
            out = put_float_reading(
                out,
                zigzag(series[place] - expected),
                zigzag(<uint64_t>times[place] - before),
                doubles[place],
            )
            expected, before = <uint64_t>series[place] + 1, <uint64_t>times[place]
        return encoded[:out - begin]
    objects = values if type(values) is list else list(values)
    bound += check_objects(series, objects, series_count)
    encoded = PyBytes_FromStringAndSize(NULL, bound)
    begin = <uint8_t*>PyBytes_AS_STRING(encoded)
    out = put_uvarint(begin, count)
    out = put_objects(out, series, times, objects)
    return encoded[:out - begin]


cdef int check_columns(
    const uint32_t[::1] series, const int64_t[::1] times, object values, Py_ssize_t series_count
) except -1:
    cdef Py_ssize_t count = series.shape[0]
    if count != times.shape[0] or count != len(values):
        raise FrameError("columns differ in length", 0)
    if count > READINGS_LIMIT:
        raise FrameError("too many readings", READINGS_LIMIT)
    if series_count > SERIES_LIMIT:
        raise FrameError("too many series", SERIES_LIMIT)
    return 0


cdef int check_series(const uint32_t[::1] series, Py_ssize_t series_count) except -1:
    cdef Py_ssize_t place
    for place in range(series.shape[0]):
        if series[place] >= series_count:
            raise FrameError("series is not in the block", place)
    return 0


cdef Py_ssize_t check_objects(const uint32_t[::1] series, list objects, Py_ssize_t series_count) except -1:
    """Check every reading, so that writing them needs no check; return the bytes of all texts."""
    cdef Py_ssize_t place, length, text_bytes = 0
    cdef int64_t number
    cdef object value
    for place in range(series.shape[0]):
        if series[place] >= series_count:
            raise FrameError("series is not in the block", place)
        value = objects[place]
        if type(value) is float or type(value) is bool:
            continue
        if type(value) is int:
            try:
                number = value
            except OverflowError:
                raise FrameError("number is not signed 64 bits", place) from None
        elif type(value) is str:
            utf8_of(value, &length, place)
            if <uint64_t>length > TEXT_LIMIT:
                raise FrameError("text is too long", place)
            text_bytes += length
        else:
            raise FrameError("value is of no known type", place)
    return text_bytes


cdef uint8_t* put_objects(
    uint8_t* out, const uint32_t[::1] series, const int64_t[::1] times, list objects
) except NULL:
    cdef Py_ssize_t place, length
    cdef uint64_t expected = 0, before = 0, step, time_step
    cdef int64_t number
    cdef const char* text
    cdef object value
    for place in range(series.shape[0]):
        step = zigzag(series[place] - expected)
        time_step = zigzag(<uint64_t>times[place] - before)
        expected, before = <uint64_t>series[place] + 1, <uint64_t>times[place]
        value = objects[place]
        if type(value) is float:
            out = put_float_reading(out, step, time_step, PyFloat_AS_DOUBLE(value))
            continue
        if type(value) is bool:
            out = put_uvarint(out, step << 4 | (TAG_TRUE if value is True else TAG_FALSE))
            out = put_uvarint(out, time_step)
        elif type(value) is int:
            number = value
            out = put_uvarint(out, step << 4 | TAG_INT)
            out = put_uvarint(out, time_step)
            out = put_uvarint(out, zigzag(<uint64_t>number))
        else:
            text = PyUnicode_AsUTF8AndSize(value, &length)
            out = put_uvarint(out, step << 4 | TAG_TEXT)
            out = put_uvarint(out, time_step)
            out = put_uvarint(out, length)
            memcpy(out, text, length)
            out += length
    return out


def decode_readings(bytes block not None, Py_ssize_t start, Py_ssize_t series_count):
    cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(block)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(block), pos, at, count, place, length
    cdef uint64_t number, head, expected = 0, step, time_ms = 0, bits
    cdef int tag, problem
    cdef double value = 0
    cdef array.array series, times, doubles
    cdef list objects = None
    cdef uint32_t* series_out
    cdef int64_t* times_out
    cdef double* doubles_out
    assert 0 <= start <= end
    assert series_count >= 0
    pos = take_uvarint(data, start, end, &number, start)
    if number > <uint64_t>READINGS_LIMIT or number > <uint64_t>(end - pos) // 2:
        raise FrameError("too many readings", start)
    count = <Py_ssize_t>number
    series = array.clone(UINTS, count, zero=False)
    times = array.clone(INT64S, count, zero=False)
    doubles = array.clone(DOUBLES, count, zero=False)
    series_out = series.data.as_uints
    times_out = <int64_t*>times.data.as_longlongs
    doubles_out = doubles.data.as_doubles
    for place in range(count):
        at = pos
        problem = get_uvarint(data, &pos, end, &head)
        if problem:
            raise_varint(problem, at)
        expected += unzigzag(head >> 4)  # unsigned: a sum outside wraps to something large
        if expected >= <uint64_t>series_count:
            raise FrameError("series is not in the block", at)
        series_out[place] = <uint32_t>expected
        expected += 1
        problem = get_uvarint(data, &pos, end, &step)
        if problem:
            raise_varint(problem, at)
        time_ms += unzigzag(step)
        times_out[place] = <int64_t>time_ms
        tag = head & 15
        if tag > TAG_FLOAT:
            length = tag - TAG_FLOAT
            if length > end - pos:
                raise FrameError("block is cut", at)
            bits = 0
            memcpy(<uint8_t*>&bits + 8 - length, data + pos, length)
            memcpy(&value, &bits, 8)
            pos += length
        elif tag >= TAG_DECIMAL:
            problem = get_uvarint(data, &pos, end, &number)
            if problem:
                raise_varint(problem, at)
            value = <double><int64_t>unzigzag(number)
            if tag > TAG_DECIMAL:
                value /= 10.0 if tag == TAG_DECIMAL + 1 else 100.0 if tag == TAG_DECIMAL + 2 else 1000.0
        else:
            if objects is None:  # the first that is no float: from here on all are objects
                objects = [doubles_out[at_before] for at_before in range(place)]
            pos = decode_object(data, pos, end, tag, at, objects)
            continue
        if objects is None:
            doubles_out[place] = value
        else:
            objects.append(value)
    if pos != end:
        raise FrameError("bytes after the last reading", pos)
    return series, times, doubles if objects is None else objects


cdef Py_ssize_t decode_object(
    const uint8_t* data, Py_ssize_t pos, Py_ssize_t end, int tag, Py_ssize_t at, list objects
) except -1:
    """Append one value that is no float; return the position after it."""
    cdef uint64_t number
    if tag == TAG_TEXT:
        pos = take_uvarint(data, pos, end, &number, at)
        if number > TEXT_LIMIT:
            raise FrameError("text is too long", at)
        if number > <uint64_t>(end - pos):
            raise FrameError("block is cut", at)
        objects.append(text_of(<const char*>data + pos, <Py_ssize_t>number, at))
        return pos + <Py_ssize_t>number
    if tag == TAG_INT:
        pos = take_uvarint(data, pos, end, &number, at)
        objects.append(<int64_t>unzigzag(number))
        return pos
    objects.append(tag == TAG_TRUE)
    return pos


def coalesce_readings(
    const uint32_t[::1] series not None,
    const int64_t[::1] times not None,
    values not None,
    Py_ssize_t series_count,
):
    cdef Py_ssize_t count = series.shape[0], place, found = 0, number, highest = -1
    cdef const double[::1] doubles
    cdef array.array series_out, times_out, doubles_out
    cdef list objects_in, objects_out
    cdef int32_t* newest
    cdef int32_t held
    check_columns(series, times, values, series_count)
    check_series(series, series_count)
    for place in range(count):
        highest = max(highest, <Py_ssize_t>series[place])
    newest = <int32_t*>malloc((highest + 1) * sizeof(int32_t) + 1)
    if newest is NULL:
        raise MemoryError
    try:
        memset(newest, 0xFF, (highest + 1) * sizeof(int32_t))  # -1: none yet
        for place in range(count):
            held = newest[series[place]]
            if held < 0:
                found += 1
                newest[series[place]] = <int32_t>place
            elif times[place] >= times[held]:
                newest[series[place]] = <int32_t>place
        series_out = array.clone(UINTS, found, zero=False)
        times_out = array.clone(INT64S, found, zero=False)
        doubles_out, objects_in, objects_out = None, None, None
        if isinstance(values, array.array):
            doubles = values
            doubles_out = array.clone(DOUBLES, found, zero=False)
        else:
            objects_in = values if type(values) is list else list(values)
            objects_out = []
        found = 0
        for number in range(highest + 1):
            held = newest[number]
            if held < 0:
                continue
            series_out.data.as_uints[found] = <uint32_t>number
            times_out.data.as_longlongs[found] = times[held]
            if objects_out is None:
                doubles_out.data.as_doubles[found] = doubles[held]
            else:
                objects_out.append(objects_in[held])
            found += 1
    finally:
        free(newest)
    return series_out, times_out, doubles_out if objects_out is None else objects_out


def compact_series(const uint32_t[::1] series not None, Py_ssize_t series_count):
    cdef Py_ssize_t count = series.shape[0], place, number, found = 0
    cdef array.array used, local
    cdef uint32_t* rank
    if series_count > SERIES_LIMIT:
        raise FrameError("too many series", SERIES_LIMIT)
    check_series(series, series_count)
    rank = <uint32_t*>calloc(series_count + 1, sizeof(uint32_t))
    if rank is NULL:
        raise MemoryError
    try:
        for place in range(count):
            if not rank[series[place]]:
                rank[series[place]] = 1
                found += 1
        used = array.clone(UINTS, found, zero=False)
        local = array.clone(UINTS, count, zero=False)
        found = 0
        for number in range(series_count):
            if rank[number]:
                rank[number] = <uint32_t>found
                used.data.as_uints[found] = <uint32_t>number
                found += 1
        for place in range(count):
            local.data.as_uints[place] = rank[series[place]]
    finally:
        free(rank)
    return used, local
