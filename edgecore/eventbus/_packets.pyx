# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled MQTT packet codec. `_packets_py.py` is its specification: same names, order of checks, and errors."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from edgecore.eventbus.packet_rules import PacketError

cdef enum:
    PUBLISH = 0x30
    PUBACK = 0x40
    MAX_REMAINING_BYTES = 4
    MAX_TOPIC_BYTES = 65535
    MAX_PACKET_ID = 65535
    MAX_LENGTH = (1 << 28) - 1
    VARINT_OK = 0
    VARINT_CUT = 1
    VARINT_LARGE = 2


cdef inline int get_uvarint(const uint8_t* data, Py_ssize_t* pos, Py_ssize_t end, uint32_t* value) noexcept nogil:
    cdef unsigned int shift = 0
    cdef uint8_t byte
    value[0] = 0
    while pos[0] < end:
        byte = data[pos[0]]
        pos[0] += 1
        value[0] |= <uint32_t>(byte & 0x7F) << shift
        if byte < 0x80:
            return VARINT_OK
        shift += 7
        if shift == 7 * MAX_REMAINING_BYTES:
            return VARINT_LARGE
    return VARINT_CUT


cdef tuple get_publish(const uint8_t* data, Py_ssize_t pos, Py_ssize_t stop, Py_ssize_t start, bint modern):
    cdef unsigned int qos = data[start] >> 1 & 3
    cdef unsigned int packet_id = 0
    cdef Py_ssize_t topic_bytes
    cdef uint32_t length
    if qos > 1:
        raise PacketError("PUBLISH at a QoS that was not asked for", start)
    if stop - pos < 2:
        raise PacketError("PUBLISH without a topic", start)
    topic_bytes = data[pos] << 8 | data[pos + 1]
    pos += 2
    if topic_bytes > stop - pos:
        raise PacketError("PUBLISH with a cut topic", start)
    if not topic_bytes:
        raise PacketError("PUBLISH with an empty topic", start)
    topic = PyUnicode_DecodeUTF8(<const char*>data + pos, topic_bytes, "replace")
    pos += topic_bytes
    if qos:
        if stop - pos < 2:
            raise PacketError("PUBLISH without a packet id", start)
        packet_id = data[pos] << 8 | data[pos + 1]
        pos += 2
        if not packet_id:
            raise PacketError("PUBLISH with packet id 0", start)
    if modern:
        code = get_uvarint(data, &pos, stop, &length)
        if code == VARINT_LARGE:
            raise PacketError("a length of more than four bytes", start)
        if code == VARINT_CUT or <Py_ssize_t>length > stop - pos:
            raise PacketError("PUBLISH with cut properties", start)
        pos += length
    return topic, PyBytes_FromStringAndSize(<const char*>data + pos, stop - pos), packet_id


def split_packets(bytes buf not None, *, bint modern):
    cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(buf)
    cdef Py_ssize_t pos = 0, end = PyBytes_GET_SIZE(buf), start, stop
    cdef uint32_t length
    cdef uint8_t head
    cdef int code
    cdef list publishes = [], acknowledged = [], others = []
    while end - pos >= 2:
        start, head = pos, data[pos]
        pos += 1
        code = get_uvarint(data, &pos, end, &length)
        if code == VARINT_LARGE:
            raise PacketError("a length of more than four bytes", start)
        if code == VARINT_CUT or <Py_ssize_t>length > end - pos:
            pos = start
            break
        stop = pos + length
        if head & 0xF0 == PUBLISH:
            publishes.append(get_publish(data, pos, stop, start, modern))
        elif head == PUBACK:
            if length < 2:
                raise PacketError("PUBACK without a packet id", start)
            acknowledged.append(data[pos] << 8 | data[pos + 1])
        else:
            others.append(PyBytes_FromStringAndSize(<const char*>data + start, stop - start))
        pos = stop
    return publishes, acknowledged, b"".join(others), pos


def encode_publishes(messages not None, packet_ids not None, *, bint modern):
    cdef list rows = list(messages), ids = list(packet_ids)
    cdef Py_ssize_t place, total = 0, topic_bytes, payload_bytes, length
    cdef long packet_id
    cdef const char* topic_data
    cdef uint8_t* out
    cdef bytes payload, encoded
    if len(rows) != len(ids):
        raise PacketError("not one packet id for each message", 0)
    # A topic's UTF-8 is kept by the text itself, so it is made once and asked for twice.
    for place in range(len(rows)):
        topic, payload = rows[place]
        PyUnicode_AsUTF8AndSize(topic, &topic_bytes)
        payload_bytes = PyBytes_GET_SIZE(payload)
        if not 0 < topic_bytes <= MAX_TOPIC_BYTES:
            raise PacketError(f"a topic of {topic_bytes} bytes", place)
        packet_id = ids[place]
        if not 0 < packet_id <= MAX_PACKET_ID:
            raise PacketError("a packet id outside 1 to 65535", place)
        if payload_bytes > MAX_LENGTH - (4 + modern + topic_bytes):
            raise PacketError(f"a payload of {payload_bytes} bytes", place)
        length = 4 + modern + topic_bytes + payload_bytes
        total += 1 + (1 if length < 128 else 2 if length < 16384 else 3 if length < 2097152 else 4) + length
    encoded = PyBytes_FromStringAndSize(NULL, total)
    out = <uint8_t*>PyBytes_AS_STRING(encoded)
    for place in range(len(rows)):
        topic, payload = rows[place]
        topic_data = PyUnicode_AsUTF8AndSize(topic, &topic_bytes)
        payload_bytes = PyBytes_GET_SIZE(payload)
        packet_id = ids[place]
        length = 4 + modern + topic_bytes + payload_bytes
        out[0] = 0x32
        out += 1
        while length > 0x7F:
            out[0] = <uint8_t>(length & 0x7F | 0x80)
            out += 1
            length >>= 7
        out[0] = <uint8_t>length
        out[1] = <uint8_t>(topic_bytes >> 8)
        out[2] = <uint8_t>(topic_bytes & 0xFF)
        memcpy(out + 3, topic_data, topic_bytes)
        out += 3 + topic_bytes
        out[0] = <uint8_t>(packet_id >> 8)
        out[1] = <uint8_t>(packet_id & 0xFF)
        out += 2
        if modern:
            out[0] = 0
            out += 1
        memcpy(out, PyBytes_AS_STRING(payload), payload_bytes)
        out += payload_bytes
    return encoded


def encode_acks(packet_ids not None):
    cdef list ids = list(packet_ids)
    cdef Py_ssize_t place
    cdef long packet_id
    cdef bytes encoded = PyBytes_FromStringAndSize(NULL, 4 * len(ids))
    cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(encoded)
    for place in range(len(ids)):
        packet_id = ids[place]
        if not 0 < packet_id <= MAX_PACKET_ID:
            raise PacketError("a packet id outside 1 to 65535", place)
        out[0] = 0x40
        out[1] = 2
        out[2] = <uint8_t>(packet_id >> 8)
        out[3] = <uint8_t>(packet_id & 0xFF)
        out += 4
    return encoded
