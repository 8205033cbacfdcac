"""A kubelet without a node: its HTTPS API over commands that run on this machine.

`exec` runs the command given, by SPDY/3.1 and by v4.channel.k8s.io; `portForward` connects to a port of loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl

from aiohttp import WSMsgType, web

from kubecore.serving.hijack import Hijacked, take_over
from kubecore.streams import spdy

V4 = "v4.channel.k8s.io"
METRICS = """# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total {node_cpu} {stamp}
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 1.5e+08 {stamp}
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{{container="c",namespace="default",pod="web"}} {pod_cpu} {stamp}
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{{container="c",namespace="default",pod="web"}} 2.097152e+07 {stamp}
"""


class FakeKubelet:
    """Serve on a free port of loopback while entered; `asked` has every request's path and query."""

    def __init__(self, pair, client_ca, log=b"one\ntwo\n"):
        self.pair, self.client_ca, self.log = pair, client_ca, log
        self.asked, self.followers, self.sizes = [], 0, []
        self.follow = asyncio.Event()
        self.metrics = None

    async def __aenter__(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pair.cert_file, self.pair.key_file)
        context.load_verify_locations(self.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc_info):
        await self._runner.cleanup()

    def node(self, name="n1"):
        """The Node whose kubelet this is."""
        return {
            "metadata": {"name": name},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
            },
        }

    async def _handle(self, request):
        self.asked.append(request.path_qs)
        action = request.path.split("/")[1]
        if action == "containerLogs":
            return await self._logs(request)
        if action == "metrics":
            return web.Response(text=self.metrics())
        if action in ("exec", "attach", "portForward"):
            return await self._stream(request, action)
        if action == "redirect":
            return web.Response(status=302, headers={"Location": "https://192.0.2.1/"})
        return web.Response(text=f"{request.method} {request.path_qs} {await request.text()}")

    async def _logs(self, request):
        if request.path.endswith("/waiting"):
            text = 'container "waiting" in pod "web" is waiting to start: ContainerCreating'
            return web.Response(status=400, text=text)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        await response.write(self.log)
        if request.query.get("follow") == "true":
            self.followers += 1
            try:
                await self.follow.wait()
                await response.write(b"three\n")
            finally:
                self.followers -= 1
        return response

    async def _stream(self, request, action):
        if request.query.get("command") == "refuse-me":
            return web.Response(status=404, text="container not found")
        if request.headers["Upgrade"].lower() == "websocket":
            return await self._by_websocket(request)
        asked = request.headers.getall("X-Stream-Protocol-Version")
        protocol = "portforward.k8s.io" if action == "portForward" else V4
        assert protocol in ",".join(asked)
        pipe = take_over(
            request,
            [
                ("Connection", "Upgrade"),
                ("Upgrade", "SPDY/3.1"),
                ("X-Stream-Protocol-Version", protocol),
            ],
        )
        try:
            with contextlib.suppress(ConnectionError):
                await SpdyServer(pipe, request.query, self.sizes).serve(action)
        finally:
            pipe.writer.close()
        return Hijacked()

    async def _by_websocket(self, request):
        socket = web.WebSocketResponse(protocols=[V4])
        await socket.prepare(request)
        process = await start(request.query)

        async def outputs():
            async with asyncio.TaskGroup() as group:
                for channel, stream in ((1, process.stdout), (2, process.stderr)):
                    group.create_task(self._copy(socket, channel, stream))
            await socket.send_bytes(b"\3" + status_of(await process.wait()))
            await socket.close()

        task = asyncio.create_task(outputs())
        async for message in socket:
            data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
            if data[0] == 0:
                process.stdin.write(data[1:])
        await task
        return socket

    async def _copy(self, socket, channel, stream):
        while data := await stream.read(65536):
            await socket.send_bytes(bytes([channel]) + data)


class SpdyServer:
    """The kubelet's end of one upgraded connection."""

    def __init__(self, pipe, query, sizes):
        self.pipe, self.query, self.sizes = pipe, query, sizes
        self.connection = spdy.SpdyConnection()
        self.streams, self.process, self.sockets = {}, None, {}

    async def serve(self, action):
        wanted = 1 + sum(self.query.get(k) == "1" for k in ("input", "output", "error", "tty"))
        try:
            async with asyncio.TaskGroup() as group:
                while data := await self.pipe.reader.read(65536):
                    for frame in self.connection.feed(data):
                        await self._take(frame, action, group)
                    if action != "portForward" and not self.process and len(self.streams) == wanted:
                        self.process = await start(self.query)
                        group.create_task(self._outputs())
                self._end()
        finally:  # also when the client went without a word
            self._end()

    def _end(self):
        if self.process and self.process.returncode is None:
            self.process.kill()
        for writer in self.sockets.values():
            writer.close()

    async def _take(self, frame, action, group):
        match frame:
            case spdy.Opened(stream, headers):
                self.streams[stream] = headers["streamtype"]
                self.pipe.writer.write(self.connection.reply(stream, {}))
                if action == "portForward" and headers["streamtype"] == "data":
                    await self._forward(stream, headers["port"], group)
            case spdy.Data(stream, content, fin):
                await self._data(stream, content, fin)
            case spdy.Ping(number):
                self.pipe.writer.write(spdy.ping(number))

    async def _forward(self, stream, port, group):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            failed = max(s for s, kind in self.streams.items() if kind == "error")
            problem = f"error forwarding port {port}: connect: connection refused".encode()
            self.pipe.writer.write(spdy.data_frame(failed, problem, fin=True))
            self.pipe.writer.write(spdy.data_frame(stream, b"", fin=True))
            return
        self.sockets[stream] = writer
        group.create_task(self._copy(reader, stream))

    async def _data(self, stream, content, fin):
        kind = self.streams[stream]
        if kind == "resize" and content:
            self.sizes.append(json.loads(content))
        sink = self.process.stdin if kind == "stdin" and self.process else self.sockets.get(stream)
        if sink is None:
            return
        with contextlib.suppress(ConnectionError):  # it ended before it read everything
            sink.write(content)
            await sink.drain()
        if fin:
            sink.write_eof()

    async def _outputs(self):
        named = {kind: stream for stream, kind in self.streams.items()}
        async with asyncio.TaskGroup() as group:
            for kind in ("stdout", "stderr"):
                source = getattr(self.process, kind)
                group.create_task(self._copy(source, named.get(kind)))
        status = status_of(await self.process.wait())
        self.pipe.writer.write(spdy.data_frame(named["error"], status, fin=True))
        await self.pipe.writer.drain()

    async def _copy(self, reader, stream):
        while data := await reader.read(65536):
            if stream is not None:
                self.pipe.writer.write(spdy.data_frame(stream, data))
                await self.pipe.writer.drain()
        if stream is not None:
            self.pipe.writer.write(spdy.data_frame(stream, b"", fin=True))


async def start(query):
    pipe = asyncio.subprocess.PIPE
    command = query.getall("command", ["cat"])  # attach: the container echoes
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    if query.get("input") != "1":
        process.stdin.close()
    return process


def status_of(code):
    if code == 0:
        return json.dumps({"metadata": {}, "status": "Success"}).encode()
    cause = {"reason": "ExitCode", "message": str(code)}
    return json.dumps(
        {
            "metadata": {},
            "status": "Failure",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "reason": "NonZeroExitCode",
            "details": {"causes": [cause]},
        }
    ).encode()
