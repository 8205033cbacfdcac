"""Blocks of readings of one node, on their way to the sink; and which ones of a node the sink has already."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from zlib import crc32

from cloudcore.seams import SampleOrigin, SampleSink
from synccore.messages import Lane
from synccore.samples import BlockDecoder
from synccore.series import Readings
from synccore.session import Received

# Blocks of a node that may come a second time: those that it had not deleted yet when its stream broke.
_REMEMBERED_BLOCKS = 128
# Nodes whose blocks are remembered; the one that was silent longest is forgotten. 2 KiB each.
_REMEMBERED_NODES = 10_000


class TakenBlocks:
    """Durable blocks that the sink took: one that comes again is acknowledged and not handed on twice."""

    def __init__(self) -> None:
        self._nodes: OrderedDict[str, OrderedDict[tuple[bytes, int], int]] = OrderedDict()

    def has(self, origin: SampleOrigin, checksum: int) -> bool:
        """Tell whether this very block was taken. By content too: a restored database counts from an older number."""
        blocks = self._nodes.get(origin.node)
        key = (origin.database_id, origin.sequence)
        return blocks is not None and blocks.get(key) == checksum

    def add(self, origin: SampleOrigin, checksum: int) -> None:
        """Remember a block."""
        blocks = self._nodes.setdefault(origin.node, OrderedDict())
        blocks[origin.database_id, origin.sequence] = checksum
        if len(blocks) > _REMEMBERED_BLOCKS:
            blocks.popitem(last=False)
        self._nodes.move_to_end(origin.node)
        if len(self._nodes) > _REMEMBERED_NODES:
            self._nodes.popitem(last=False)


class SampleQueue:
    """Hands a node's blocks to the sink one after the other; calls `done(lane, number)` after each.

    Bounded: the session admits a window of frames per lane, and nothing else enters.
    """

    def __init__(
        self, node: str, sink: SampleSink, taken: TakenBlocks, done: Callable[[Lane, int], None]
    ) -> None:
        self._node, self._sink, self._taken, self._done = node, sink, taken, done
        self._decoder = BlockDecoder()
        self._waiting: asyncio.Queue[tuple[Received, SampleOrigin, Readings]] = asyncio.Queue()

    def put(self, received: Received, database_id: bytes) -> int:
        """Take a frame; return how many readings are in it. Raises: FrameError: its block does not decode."""
        block = self._decoder.decode(received.block)
        origin = SampleOrigin(self._node, database_id, block.sequence)
        self._waiting.put_nowait((received, origin, block.readings))
        return len(block.readings)

    async def run(self) -> None:
        """Hand on until cancelled."""
        while True:
            received, origin, readings = await self._waiting.get()
            if not origin.sequence:
                await self._sink.take(origin, readings)
            else:
                checksum = crc32(received.block)
                if not self._taken.has(origin, checksum):
                    await self._sink.take(origin, readings)
                    self._taken.add(origin, checksum)
            self._done(received.lane, received.number)
