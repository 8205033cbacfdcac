"""The stream of readings to edgecore: a few batches on their way, each kept until it is answered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from mappers.sdk.errors import EdgeLostError
from mappers.sdk.outbox import BatchWriter, Reading

ANSWER_TIMEOUT_S = 30.0
# edgecore stores one batch while the next is on its way.
MAX_UNANSWERED = 4
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]

Readings = list[Reading]


class NoStreamsError(Exception):
    """Raised where edgecore has no ReadingService."""


class ReadingStream:
    """One call. Shapes: readings: all numbers, or all texts."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self._call: Any = None
        self._writer = BatchWriter()
        self._sent: deque[Readings] = deque()

    async def send(self, readings: Readings, overtaken_count: int = 0) -> str:
        """Send a batch once few are unanswered; return what edgecore says of an earlier one, "" if nothing.

        Shapes:  overtaken_count: readings that were given up since the last batch.
        Raises:  EdgeLostError, NoStreamsError: what was not answered is in `unanswered()`.
        """
        self._sent.append(readings)
        problem = ""
        async with _translated():
            if self._call is None:
                self._call = self._stub.Stream()
            await self._call.write(self._writer.encode(readings, overtaken_count))
            while len(self._sent) > MAX_UNANSWERED:
                problem = await self._answer() or problem
        return problem

    async def settle(self) -> str:
        """Wait for all answers; return what edgecore says, "" if nothing. Raises: as `send`."""
        problem = ""
        async with _translated():
            while self._sent:
                problem = await self._answer() or problem
        return problem

    def unanswered(self) -> Readings:
        """Remove and return the readings that edgecore may not have stored."""
        readings = [reading for batch in self._sent for reading in batch]
        self._sent.clear()
        return readings

    def close(self) -> None:
        """End the call."""
        if self._call is not None:
            self._call.cancel()

    async def _answer(self) -> str:
        assert self._call is not None
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer = await self._call.read()
        if answer is _EOF:
            raise EdgeLostError("edgecore ended the stream of readings")
        self._sent.popleft()
        return (
            f"{answer.refused} of {answer.taken + answer.refused}: {answer.reason}"
            if answer.refused
            else ""
        )


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Translate what gRPC raises."""
    try:
        yield
    except grpc.aio.AioRpcError as exc:
        if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise NoStreamsError from exc
        raise EdgeLostError(f"{exc.code().name}: {exc.details()}") from exc
    except (TimeoutError, asyncio.InvalidStateError) as exc:
        raise EdgeLostError("edgecore does not answer on the stream of readings") from exc
