"""The component `nodeproxy`: a TLS port for each connected node, opened when it joins and closed when it leaves."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Self

from cloudcore.edgecontroller.nodes import Endpoint
from cloudcore.kube.reviews import Api
from cloudcore.nodeproxy.access import Access
from cloudcore.nodeproxy.connection import READ_BYTES, ClientConnection
from cloudcore.nodeproxy.ports import PortBook
from cloudcore.nodeproxy.serving import NodeServer
from cloudcore.seams import NodeStreams
from cloudcore.settings import NodeProxySettings
from corekit.errors import SETTINGS, ConfigError
from corekit.logs import RepeatedFault

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 10.0
# For what was written last; a client that does not read it is cut.
CLOSE_TIMEOUT_S = 1.0
BACKLOG = 64
# Of one node, and of all: an idle connection with TLS costs tens of KiB. An API server keeps a few per node.
MAX_CONNECTIONS_PER_NODE = 256
MAX_CONNECTIONS = 8192


class _Door(NamedTuple):
    """The open port of one node."""

    endpoint: Endpoint
    socket: socket.socket
    connections: set[asyncio.Task[None]]


class NodeProxy:
    """Component, and the hub's `NodeWatcher`. Without `nodeproxy.advertise_address` it does nothing.

    Shapes:  recorded(node): the endpoint that the Node says now, as `address:port`, "" if none.
    """

    name = "nodeproxy"

    def __init__(
        self,
        settings: NodeProxySettings,
        api: Api,
        recorded: Callable[[str], str] = lambda _node: "",
    ) -> None:
        self._settings, self._recorded = settings, recorded
        self._access = Access(api)
        self._ports = PortBook(*settings.ports)
        self._streams: NodeStreams | None = None
        self._tls: ssl.SSLContext | None = None
        self._doors: dict[str, _Door] = {}
        self._group: asyncio.TaskGroup | None = None
        self._connection_count = 0
        self._fault = RepeatedFault(logger, "nodeproxy: no port for a node")

    def reach(self, streams: NodeStreams) -> None:
        """Open streams by `streams`; before the first node joins."""
        self._streams = streams

    async def __aenter__(self) -> Self:
        """Read the certificate files. Raises: ConfigError."""
        if self._settings.advertise_address:
            self._tls = await asyncio.to_thread(_tls, self._settings)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close every port."""
        for node in list(self._doors):
            self.left(node)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            for node, door in self._doors.items():
                self._start(node, door)
            await asyncio.Event().wait()

    def endpoint_of(self, node: str) -> Endpoint | None:
        """Return where `node` can be reached now; None if it cannot."""
        door = self._doors.get(node)
        return door.endpoint if door is not None else None

    def joined(self, node: str) -> bool:
        """Open the node's port; return whether its Node must be written again, as it says another one."""
        if self._tls is None:
            return False
        if node not in self._doors:
            self._open(node)
        endpoint = self.endpoint_of(node)
        wanted = f"{endpoint.address}:{endpoint.port}" if endpoint else ""
        return self._recorded(node) != wanted

    def left(self, node: str) -> None:
        """Close the node's port, and what runs through it."""
        door = self._doors.pop(node, None)
        if door is None:
            return
        self._ports.release(node)
        if not door.connections:  # nobody has begun to accept
            door.socket.close()
        for task in door.connections:
            task.cancel()

    def _open(self, node: str) -> None:
        opened: list[socket.socket] = []
        port = self._ports.claim(node, partial(self._bind, opened))
        if port is None:
            first, last = self._settings.ports
            self._fault.failed(f"{node}: all of {first} to {last} are taken")
            return
        self._fault.cleared()
        endpoint = Endpoint(self._settings.advertise_address, port)
        door = self._doors[node] = _Door(endpoint, opened[0], set())
        logger.debug("nodeproxy: port %d", port, extra={"node": node})
        if self._group is not None:
            self._start(node, door)

    def _bind(self, opened: list[socket.socket], port: int) -> bool:
        family = socket.AF_INET6 if ":" in self._settings.address else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((self._settings.address, port))
            made.listen(BACKLOG)
            made.setblocking(False)
        except OSError:
            made.close()
            return False
        opened.append(made)
        return True

    def _start(self, node: str, door: _Door) -> None:
        assert self._group is not None
        assert self._streams is not None
        server = NodeServer(node, self._streams, self._access)
        task = self._group.create_task(self._accept(server, door), name=f"nodeproxy {node}")
        door.connections.add(task)
        task.add_done_callback(partial(self._stopped, door))

    def _stopped(self, door: _Door, task: asyncio.Task[None]) -> None:
        door.connections.discard(task)
        door.socket.close()  # not before: the loop still watched it

    async def _accept(self, server: NodeServer, door: _Door) -> None:
        assert self._group is not None
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(door.socket)
            except OSError:
                await asyncio.sleep(0.1)  # no descriptor is free: others will be
                continue
            full = len(door.connections) > MAX_CONNECTIONS_PER_NODE
            if full or self._connection_count >= MAX_CONNECTIONS:
                connection.close()
                continue
            _keep_alive(connection)
            self._connection_count += 1
            task = self._group.create_task(self._serve(server, connection))
            door.connections.add(task)
            task.add_done_callback(partial(self._served, door))

    def _served(self, door: _Door, task: asyncio.Task[None]) -> None:
        door.connections.discard(task)
        self._connection_count -= 1

    async def _serve(self, server: NodeServer, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            async with asyncio.timeout(2 * HANDSHAKE_TIMEOUT_S):
                # The protocol that comes back is not always ours: uvloop gives that of TLS.
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol,
                    connection,
                    ssl=self._tls,
                    ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                )
        except (
            OSError,
            TimeoutError,
            ssl.SSLError,
        ):  # no TLS, or a certificate of somebody else's authority
            connection.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await server.serve(ClientConnection(reader, writer))
        except (
            Exception
        ):  # a bug ends this connection and not every node's, as in gRPC's own server
            logger.exception("nodeproxy: a connection failed")
        finally:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await writer.wait_closed()
            transport.abort()


def _keep_alive(connection: socket.socket) -> None:
    """Have the kernel notice within a minute that a client is gone: one that only listens sends nothing itself."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _tls(settings: NodeProxySettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL  # without one a bearer token decides
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file)
        context.load_verify_locations(settings.client_ca_file)
    except (OSError, ssl.SSLError) as exc:
        files = f"{settings.cert_file}, {settings.key_file}, {settings.client_ca_file}"
        raise ConfigError(SETTINGS, "nodeproxy.cert_file", f"one of {files}: {exc}") from exc
    return context
