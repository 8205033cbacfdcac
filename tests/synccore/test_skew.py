"""One end newer than the other: what the wire promises for it (docs/protocol.md, section 12)."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from devicemodels.pb import readings_pb2
from synccore.messages import Hello, Welcome
from synccore.pb import sync_pb2 as pb
from synccore.pb import values_pb2
from synccore.wire import cloud_to_wire, edge_to_wire, from_wire
from tests.synccore.test_sessions import EVERY_MESSAGE
from tests.synccore.test_wire import CLOUD_ONLY, EDGE_ONLY

FIRST_RELEASE = Path(__file__).with_name("release_0_1.txt")
# A varint in field 2047, which nobody has: what a newer peer's field looks like to us.
LATER_FIELD = b"\xf8\x7f\x01"
_TYPES = {
    number: name[5:].lower()
    for name, number in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}


def grammar():
    """Return a line for each field and each value of what goes over the wire."""
    lines = set()
    for file in (pb.DESCRIPTOR, values_pb2.DESCRIPTOR, readings_pb2.DESCRIPTOR):
        for message in file.message_types_by_name.values():
            for field in message.fields:
                many = "repeated " if field.is_repeated else ""
                what = f"{field.number} {many}{_TYPES[field.type]}"
                lines.add(f"{message.full_name}.{field.name} {what}")
        for enum in file.enum_types_by_name.values():
            lines |= {f"{enum.full_name}.{value.name} {value.number}" for value in enum.values}
    return lines


def test_what_the_first_release_put_on_the_wire_means_the_same_today():
    promised = set(FIRST_RELEASE.read_text().splitlines())
    assert promised - grammar() == set()
    # Nor has a number been given to something else since.
    taken = {_place(line) for line in grammar() - promised}
    assert taken & {_place(line) for line in promised} == set()


def _place(line):
    name, number, *_ = line.split()
    return name.rpartition(".")[0], number


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda m: type(m).__name__)
def test_a_field_that_a_newer_peer_sends_is_skipped(message):
    ways = [] if isinstance(message, CLOUD_ONLY) else [edge_to_wire]
    ways += [] if isinstance(message, EDGE_ONLY) else [cloud_to_wire]
    for to_wire in ways:
        newer = to_wire(message)
        getattr(newer, newer.WhichOneof("message")).MergeFromString(LATER_FIELD)
        content = newer.SerializeToString() + LATER_FIELD
        assert content.count(LATER_FIELD) == 2
        assert from_wire(type(newer).FromString(content)) == message


def test_an_older_peer_that_leaves_later_fields_out_is_understood():
    hello = pb.EdgeMessage(hello=pb.Hello(protocol=1, node_name="n", database_id=b"d" * 16))
    assert from_wire(hello) == Hello("n", b"d" * 16, b"", 0, "", "")
    welcome = pb.CloudMessage(welcome=pb.Welcome(protocol=1, heartbeat_ms=5000, window_frames=16))
    assert from_wire(welcome) == Welcome(False, 5.0, 16, "", max_frame_bytes=0)
