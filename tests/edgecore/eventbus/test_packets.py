"""The MQTT packet codec: both twins, the same results and the same errors on any input."""

from importlib import import_module

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgecore.eventbus.packet_rules import MAX_TOPIC_BYTES, PacketError
from edgecore.eventbus.packets import cut_publish, packet_bytes

TWINS = ("edgecore.eventbus._packets", "edgecore.eventbus._packets_py")
COMPILED = pytest.param(TWINS[0], id="compiled", marks=pytest.mark.compiled)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
MESSAGE = st.tuples(TEXT, st.binary(max_size=300), st.integers(1, 65_535))
OTHERS = st.sampled_from([b"\xd0\x00", b"\x90\x03\x00\x01\x01", b"\xe0\x00", b"\x20\x02\x00\x00"])


@pytest.fixture(params=[COMPILED, pytest.param(TWINS[1], id="purepy")])
def twin(request):
    return import_module(request.param)


def packet(head, body):
    size, coded = len(body), bytearray()
    while size > 127:
        coded.append(size & 127 | 128)
        size >>= 7
    return bytes([head, *coded, size]) + body


def properties():
    made = Properties(PacketTypes.PUBLISH)
    made.ContentType, made.UserProperty = "application/json", ("a", "b" * 130)
    return made.pack()


def message(topic=b"t", rest=b"\x00\x01", head=0x32):
    return packet(head, len(topic).to_bytes(2, "big") + topic + rest)


@given(st.lists(MESSAGE, max_size=6), st.booleans(), st.integers(0, 30))
def test_what_is_encoded_splits_into_the_same_again(messages, modern, cut):
    twin = import_module(TWINS[1])
    named = [(topic, payload) for topic, payload, _ in messages]
    ids = [packet_id for _, _, packet_id in messages]
    buf = twin.encode_publishes(named, ids, modern=modern) + twin.encode_acks(ids)
    assert twin.split_packets(buf, modern=modern) == (messages, ids, b"", len(buf))
    short = buf[: max(0, len(buf) - cut)]
    whole, acknowledged, _, consumed = twin.split_packets(short, modern=modern)
    rest = twin.split_packets(buf[consumed:], modern=modern)
    assert (whole + rest[0], acknowledged + rest[1]) == (messages, ids)


def test_qos_0_has_no_id_and_properties_are_passed_over(twin):
    buf = message(b"a/b", b"payload", head=0x30) + message(b"c", b"\x01\x02" + b"x", head=0x3B)
    assert twin.split_packets(buf, modern=False)[0] == [("a/b", b"payload", 0), ("c", b"x", 258)]
    buf = message(b"a", properties() + b"x", head=0x31) + message(b"c", b"\x00\x07\x00y")
    assert twin.split_packets(buf, modern=True)[0] == [("a", b"x", 0), ("c", b"y", 7)]


def test_an_acknowledgement_may_have_a_reason(twin):
    buf = b"\x40\x02\x00\x01\x40\x04\x01\x00\x10\x00\x40\x03\xff\xff\x97"
    assert twin.split_packets(buf, modern=True) == ([], [1, 256, 65_535], b"", len(buf))


def test_other_packets_are_passed_on_as_they_are_and_the_odd_end_stays(twin):
    buf = b"\xd0\x00" + message() + b"\x90\x03\x00\x01\x01" + message()[:-1]
    publishes, _, others, consumed = twin.split_packets(buf, modern=False)
    assert publishes == [("t", b"", 1)]
    assert others == b"\xd0\x00\x90\x03\x00\x01\x01"
    assert buf[consumed:] == message()[:-1]


def test_a_topic_that_is_no_utf_8_is_one_that_nobody_serves(twin):
    assert twin.split_packets(message(b"\xff\x00"), modern=False)[0] == [("�\x00", b"", 1)]


@pytest.mark.parametrize(
    ("bad", "modern", "reason"),
    [
        (b"\x30\xff\xff\xff\xff\x01", False, "a length of more than four bytes"),
        (b"\x34\x05\x00\x01t\x00\x01", False, "PUBLISH at a QoS that was not asked for"),
        (b"\x36\x05\x00\x01t\x00\x01", False, "PUBLISH at a QoS that was not asked for"),
        (b"\x30\x01\x00", False, "PUBLISH without a topic"),
        (b"\x30\x04\x00\x03ab", False, "PUBLISH with a cut topic"),
        (b"\x30\x02\x00\x00", False, "PUBLISH with an empty topic"),
        (b"\x32\x04\x00\x01t\x00", False, "PUBLISH without a packet id"),
        (b"\x32\x05\x00\x01t\x00\x00", False, "PUBLISH with packet id 0"),
        (b"\x32\x05\x00\x01t\x00\x01", True, "PUBLISH with cut properties"),
        (b"\x32\x06\x00\x01t\x00\x01\x01", True, "PUBLISH with cut properties"),
        (b"\x32\x09\x00\x01t\x00\x01\x80\x80\x80\x80", True, "a length of more than four bytes"),
        (b"\x40\x01\x00", False, "PUBACK without a packet id"),
    ],
)
def test_a_malformed_packet_is_refused_with_its_place(twin, bad, modern, reason):
    with pytest.raises(PacketError) as caught:
        twin.split_packets(b"\xd0\x00" + bad, modern=modern)
    assert (caught.value.reason, caught.value.offset) == (reason, 2)


@pytest.mark.parametrize(
    ("messages", "ids", "problem"),
    [
        ([("t", b""), ("", b"")], [1, 2], "a topic of 0 bytes at byte 1"),
        ([("x" * (MAX_TOPIC_BYTES + 1), b"")], [1], "a topic of 65536 bytes at byte 0"),
        ([("t", b"")], [0], "a packet id outside 1 to 65535 at byte 0"),
        ([("t", b"")], [65_536], "a packet id outside 1 to 65535 at byte 0"),
        ([("t", b"")], [], "not one packet id for each message at byte 0"),
    ],
)
def test_what_the_protocol_cannot_carry_is_refused(twin, messages, ids, problem):
    with pytest.raises(PacketError, match=problem):
        twin.encode_publishes(messages, ids, modern=True)


def test_an_acknowledgement_of_nothing_is_refused(twin):
    with pytest.raises(PacketError, match="a packet id outside 1 to 65535 at byte 1"):
        twin.encode_acks([1, 0])


@pytest.mark.compiled
@example(b"\x32\x80\x80\x80\x80", True)
@given(
    st.one_of(
        st.binary(max_size=64),
        st.lists(
            st.one_of(
                OTHERS,
                st.builds(
                    message,
                    st.binary(max_size=4),
                    st.binary(max_size=8),
                    st.integers(0x30, 0x3F),
                ),
                st.builds(packet, st.just(0x40), st.binary(max_size=4)),
                st.binary(max_size=4),
            ),
            max_size=6,
        ).map(b"".join),
    ),
    st.booleans(),
)
def test_twins_agree_on_any_bytes(buf, modern):
    assert outcome(TWINS[0], buf, modern) == outcome(TWINS[1], buf, modern)


@pytest.mark.compiled
@given(st.lists(MESSAGE, max_size=6), st.booleans())
def test_twins_encode_the_same(messages, modern):
    named, ids = [m[:2] for m in messages], [m[2] for m in messages]
    one, other = (import_module(name) for name in TWINS)
    encoded = one.encode_publishes(named, ids, modern=modern)
    assert encoded == other.encode_publishes(named, ids, modern=modern)
    assert one.encode_acks(ids) == other.encode_acks(ids)
    assert one.split_packets(encoded, modern=modern) == (messages, [], b"", len(encoded))


def outcome(name, buf, modern):
    try:
        return import_module(name).split_packets(buf, modern=modern)
    except PacketError as exc:
        return exc.reason, exc.offset


@pytest.mark.parametrize("size", [0, 127, 128, 16_383, 16_384, 2_097_152])
def test_the_length_of_a_packet_is_known_from_its_head(size):
    whole = packet(0x30, bytes(size))
    head = whole[: len(whole) - size]
    assert packet_bytes(whole) == packet_bytes(head) == len(whole)
    assert packet_bytes(head[:-1]) == 0


def test_a_message_that_is_cut_is_one_of_what_is_there(twin):
    whole = packet(0x32, b"\x00\x01t\x00\x07" + b"x" * 3_000_000)
    cut = cut_publish(whole[:500_000])
    ((topic, payload, packet_id),), _, others, consumed = twin.split_packets(cut, modern=False)
    assert (topic, packet_id, others, consumed) == ("t", 7, b"", len(cut))
    assert payload == b"x" * (500_000 - len(whole) + 3_000_000)
