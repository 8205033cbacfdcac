"""Every message survives protobuf, and what is not a message is refused."""

from __future__ import annotations

import pytest

from corekit.errors import ProtocolError
from synccore.messages import (
    Answer,
    Ask,
    Hello,
    Inventory,
    Rejected,
    ReportAll,
    Summary,
    Synced,
    TunnelOpen,
    TunnelOpened,
    Wanted,
    Welcome,
)
from synccore.pb import sync_pb2 as pb
from synccore.wire import EmptyMessageError, cloud_to_wire, edge_to_wire, from_wire
from tests.synccore.test_sessions import EVERY_MESSAGE

EDGE_ONLY = (Ask, Hello, Summary, Inventory, Rejected, TunnelOpened)
CLOUD_ONLY = (Answer, Welcome, Wanted, Synced, ReportAll, TunnelOpen)


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda m: type(m).__name__)
def test_a_message_survives_the_wire(message):
    if not isinstance(message, CLOUD_ONLY):
        wire = pb.EdgeMessage.FromString(edge_to_wire(message).SerializeToString())
        assert from_wire(wire) == message
    if not isinstance(message, EDGE_ONLY):
        wire = pb.CloudMessage.FromString(cloud_to_wire(message).SerializeToString())
        assert from_wire(wire) == message


def test_an_empty_message_and_an_unknown_lane_are_refused():
    for wire in (pb.EdgeMessage(), pb.EdgeMessage(ack=pb.Ack(lane=9, number=1))):
        with pytest.raises(ProtocolError):
            from_wire(wire)


def test_bytes_that_do_not_parse_break_the_protocol_not_the_process():
    with pytest.raises(EmptyMessageError, match="no message of this protocol"):
        from_wire(None)
