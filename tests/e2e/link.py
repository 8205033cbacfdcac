"""A link between an edge and its cloud that can be cut: a TCP proxy in a thread, for tests without a loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading


class Link:
    """Forwards 127.0.0.1:`port` to `target_port` until `cut()`; then refuses and drops, until `mend()`."""

    def __init__(self, target_port):
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link")
        self._pipes = set()
        self._server = None
        self.port = 0

    def __enter__(self):
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *exc_info):
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self):
        """Drop every connection and refuse new ones."""
        self._call(self._cut())

    def mend(self):
        """Forward again, on the same port."""
        self._call(self._listen())

    def _call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(5)

    async def _listen(self):
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self):
        if self._server is not None:
            self._server.close()
            self._server = None
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.cancel()
        if pipes:
            await asyncio.wait(pipes)

    async def _serve(self, reader, writer):
        self._pipes.add(asyncio.current_task())
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                far_reader, far_writer = await asyncio.open_connection(
                    "127.0.0.1", self._target_port
                )
                with contextlib.closing(far_writer):
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_pump(reader, far_writer))
                        group.create_task(_pump(far_reader, writer))
        finally:
            writer.close()
            self._pipes.discard(asyncio.current_task())


async def _pump(reader, writer):
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
