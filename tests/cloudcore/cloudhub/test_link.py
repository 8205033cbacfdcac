"""A link that ends for two reasons at once ends, and the hub that keeps its time goes on."""

from __future__ import annotations

import asyncio
import time

import pytest

from cloudcore.cloudhub.link import NodeLink
from synccore.cloud_session import CloudSession
from tests.cloudcore.cloudhub.test_storm import GoneError, Hub, Pipe


class BrokenPipe(Pipe):
    """Nobody reads it, and nothing comes."""

    async def send(self, messages):
        raise GoneError("broken")


async def test_a_peer_that_falls_silent_while_its_link_breaks_does_not_end_the_hub():
    hub = Hub("edge-1")
    session = CloudSession(time.monotonic(), heartbeat_s=2.0, window_frames=4)
    link = NodeLink("edge-1", BrokenPipe(), session, hub.surroundings)
    serving = asyncio.create_task(link.serve())
    while link._group is None:
        await asyncio.sleep(0)
    session.close("X", "something to send")
    link._to_send.set()
    while not link._group._aborting:  # its writer has failed, and its reader has not heard of it
        await asyncio.sleep(0)
    session.state = type(session.state).LIVE
    link.tick(time.monotonic() + 1000.0)
    with pytest.raises(ExceptionGroup) as caught:
        await serving
    assert caught.group_contains(GoneError)
