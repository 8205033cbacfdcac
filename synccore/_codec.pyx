# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled codec. `_codec_py.py` is its specification: same names, order of checks, and errors."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy

from synccore.errors import FrameError
from synccore.messages import (
    BATCH_FORMAT,
    MAX_BODY_BYTES,
    MAX_DELTAS_PER_FRAME,
    MAX_TEXT_BYTES,
    Delta,
    ObjectKey,
    Op,
)

# The bytes on the wire are little-endian and are read in place; every machine Python's wheels run on is.
import sys

if sys.byteorder != "little":
    raise ImportError("synccore._codec needs a little-endian machine; SYNCCORE_PUREPY=1 runs anywhere")

cdef uint8_t FORMAT = BATCH_FORMAT
cdef uint64_t TEXT_LIMIT = MAX_TEXT_BYTES
cdef uint64_t BODY_LIMIT = MAX_BODY_BYTES
cdef Py_ssize_t DELTAS_LIMIT = MAX_DELTAS_PER_FRAME
cdef tuple OPS = tuple(Op)
cdef uint8_t OPS_COUNT = len(OPS)
cdef object new_tuple = tuple.__new__

cdef enum:
    VARINT_OK = 0
    VARINT_CUT = 1
    VARINT_LARGE = 2
    ENTRY_BYTES = 16
    VERSION_BYTES = 8
    # op, four text lengths (2 bytes each at most 512), version, two uvarints, body length: never more.
    RECORD_OVERHEAD_BYTES = 1 + 4 * 2 + VERSION_BYTES + 10 + 10 + 10

cdef struct Entry:
    uint64_t hashed
    uint64_t version


cdef inline int get_uvarint(const uint8_t* data, Py_ssize_t* pos, Py_ssize_t end, uint64_t* value) noexcept nogil:
    cdef uint64_t result = 0
    cdef unsigned int shift = 0
    cdef uint8_t byte
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


cdef inline int raise_varint(int problem, Py_ssize_t start) except -1:
    raise FrameError("record is cut" if problem == VARINT_CUT else "number is too large", start)


cdef uint64_t unsigned64(object number, Py_ssize_t place) except? 0:
    try:
        return number
    except OverflowError:
        raise FrameError("number is not unsigned 64 bits", place) from None


def encode_batch(deltas not None):
    cdef Py_ssize_t count = len(deltas), place = 0, size = 1, length
    cdef bytes batch, body
    cdef uint8_t* out
    cdef uint8_t* begin
    cdef uint64_t number
    cdef const char* text
    cdef object op, key, uid, version, sequence, change_id, part
    if count > DELTAS_LIMIT:
        raise FrameError("too many deltas", DELTAS_LIMIT)
    # Pass one: check everything and add up an upper bound, so that pass two writes without a check.
    for op, key, uid, version, sequence, body, change_id in deltas:
        size += RECORD_OVERHEAD_BYTES
        for part in (key[0], key[1], key[2], uid):
            PyUnicode_AsUTF8AndSize(part, &length)
            if <uint64_t>length > TEXT_LIMIT:
                raise FrameError("text is too long", place)
            size += length
        unsigned64(version, place)
        unsigned64(sequence, place)
        unsigned64(change_id, place)
        if <uint64_t>len(body) > BODY_LIMIT:
            raise FrameError("body is too long", place)
        size += len(body)
        place += 1
    batch = PyBytes_FromStringAndSize(NULL, size)
    begin = <uint8_t*>PyBytes_AS_STRING(batch)
    out = begin
    out[0] = FORMAT
    out += 1
    for op, key, uid, version, sequence, body, change_id in deltas:
        out[0] = <uint8_t>op
        out += 1
        for part in (key[0], key[1], key[2], uid):
            text = PyUnicode_AsUTF8AndSize(part, &length)
            out = put_uvarint(out, length)
            memcpy(out, text, length)
            out += length
        number = version
        memcpy(out, &number, VERSION_BYTES)
        out += VERSION_BYTES
        out = put_uvarint(out, sequence)
        out = put_uvarint(out, change_id)
        length = PyBytes_GET_SIZE(body)
        out = put_uvarint(out, length)
        memcpy(out, PyBytes_AS_STRING(body), length)
        out += length
    return batch[:out - begin]


def decode_batch(bytes batch not None):
    cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(batch)
    cdef Py_ssize_t pos = 1, end = PyBytes_GET_SIZE(batch), start, count = 0
    cdef uint64_t length, version, sequence, change_id
    cdef int problem, part
    cdef list deltas = []
    cdef object op, texts0, texts1, texts2, uid, text
    if end == 0 or data[0] != FORMAT:
        raise FrameError("unknown batch format", 0)
    while pos < end:
        start = pos
        if count == DELTAS_LIMIT:
            raise FrameError("too many deltas", start)
        if data[pos] >= OPS_COUNT:
            raise FrameError("unknown operation", start)
        op = OPS[data[pos]]
        pos += 1
        texts0 = texts1 = texts2 = uid = None
        for part in range(4):
            problem = get_uvarint(data, &pos, end, &length)
            if problem:
                raise_varint(problem, start)
            if length > TEXT_LIMIT:
                raise FrameError("text is too long", start)
            if length > <uint64_t>(end - pos):
                raise FrameError("record is cut", start)
            try:
                text = PyUnicode_DecodeUTF8(<const char*>data + pos, <Py_ssize_t>length, NULL)
            except UnicodeDecodeError:
                raise FrameError("text is not UTF-8", start) from None
            if part == 0:
                texts0 = text
            elif part == 1:
                texts1 = text
            elif part == 2:
                texts2 = text
            else:
                uid = text
            pos += <Py_ssize_t>length
        if end - pos < VERSION_BYTES:
            raise FrameError("record is cut", start)
        memcpy(&version, data + pos, VERSION_BYTES)
        pos += VERSION_BYTES
        problem = get_uvarint(data, &pos, end, &sequence)
        if problem:
            raise_varint(problem, start)
        problem = get_uvarint(data, &pos, end, &change_id)
        if problem:
            raise_varint(problem, start)
        problem = get_uvarint(data, &pos, end, &length)
        if problem:
            raise_varint(problem, start)
        if length > BODY_LIMIT:
            raise FrameError("body is too long", start)
        if length > <uint64_t>(end - pos):
            raise FrameError("record is cut", start)
        text = PyBytes_FromStringAndSize(<const char*>data + pos, <Py_ssize_t>length)
        pos += <Py_ssize_t>length
        # Straight to tuple.__new__: the named tuples' own constructors cost a Python call each.
        deltas.append(
            new_tuple(
                Delta,
                (op, new_tuple(ObjectKey, (texts0, texts1, texts2)), uid, version, sequence, text, change_id),
            )
        )
        count += 1
    return deltas


cdef int by_hash(const void* one, const void* other) noexcept nogil:
    cdef const Entry* a = <const Entry*>one
    cdef const Entry* b = <const Entry*>other
    if a.hashed != b.hashed:
        return -1 if a.hashed < b.hashed else 1
    return 0 if a.version == b.version else (-1 if a.version < b.version else 1)


def pack_entries(entries not None):
    cdef Py_ssize_t count = len(entries), place = 0
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, count * ENTRY_BYTES)
    cdef Entry* out = <Entry*>PyBytes_AS_STRING(packed)
    for hashed, version in entries:
        out[place].hashed = hashed
        out[place].version = version
        place += 1
    qsort(out, count, ENTRY_BYTES, by_hash)
    return packed


cdef inline uint64_t mix(uint64_t value) noexcept nogil:
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)


def digest_entries(bytes entries not None):
    cdef Py_ssize_t size = PyBytes_GET_SIZE(entries), place
    cdef Entry entry, total
    check_whole(size)
    total.hashed = total.version = 0
    for place in range(0, size, ENTRY_BYTES):
        memcpy(&entry, PyBytes_AS_STRING(entries) + place, ENTRY_BYTES)
        entry.hashed = mix(entry.hashed ^ mix(entry.version))
        total.hashed += entry.hashed
        total.version += mix(entry.hashed ^ <uint64_t>0x9E3779B97F4A7C15)
    return PyBytes_FromStringAndSize(<const char*>&total, ENTRY_BYTES)


def diff_entries(bytes local not None, bytes remote not None):
    cdef Py_ssize_t mine = 0, mine_end = PyBytes_GET_SIZE(local), place, size = PyBytes_GET_SIZE(remote)
    cdef Entry ours, theirs
    cdef uint64_t previous = 0
    cdef list send = [], forget = []
    check_whole(size)
    for place in range(0, size, ENTRY_BYTES):
        memcpy(&theirs, PyBytes_AS_STRING(remote) + place, ENTRY_BYTES)
        if place and theirs.hashed <= previous:
            raise FrameError("inventory is not sorted", place)
        previous = theirs.hashed
        while mine < mine_end:
            memcpy(&ours, PyBytes_AS_STRING(local) + mine, ENTRY_BYTES)
            if ours.hashed >= theirs.hashed:
                break
            send.append(ours.hashed)
            mine += ENTRY_BYTES
        if mine == mine_end or ours.hashed != theirs.hashed:
            forget.append(theirs.hashed)
            continue
        if ours.version != theirs.version:
            send.append(theirs.hashed)
        mine += ENTRY_BYTES
    while mine < mine_end:
        memcpy(&ours, PyBytes_AS_STRING(local) + mine, ENTRY_BYTES)
        send.append(ours.hashed)
        mine += ENTRY_BYTES
    return send, forget


cdef int check_whole(Py_ssize_t size) except -1:
    if size % ENTRY_BYTES:
        raise FrameError("inventory is cut", size - size % ENTRY_BYTES)
    return 0
