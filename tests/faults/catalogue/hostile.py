"""Peers that send what no peer may: F16. The process, the other sessions and the stored data are untouched."""

from __future__ import annotations

import asyncio
import contextlib
import random

import grpc

from synccore import messages as m
from synccore.codec import decode_batch, encode_batch
from synccore.errors import FrameError
from synccore.wire import cloud_to_wire, edge_to_wire
from tests.faults.catalogue.base import Fault
from tests.faults.world import EVIL, World, free_port

METHOD = "/armadillo.sync.v1.Sync/Connect"
# Nobody ever sent a frame of this number, so no acknowledgement of it may mean anything.
NEVER = 1 << 40
STREAMS = 8
KEY = m.ObjectKey("Pod", "default", "evil")


async def hostile_edge(world: World, rng: random.Random) -> None:
    """A node with a good certificate sends garbage; so does somebody without one."""
    joined = world.edge.process.log_text().count("edgehub: joined cloudcore")
    pair = world.site.issue("evil", f"system:node:{EVIL}")
    credentials = grpc.ssl_channel_credentials(
        world.site.authority.pair.cert_file.read_bytes(),
        pair.key_file.read_bytes(),
        pair.cert_file.read_bytes(),
    )
    address = f"127.0.0.1:{world.site.cloud_port}"
    for _ in range(STREAMS):
        world.injected("F16", who="edge")
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            await _talk(channel, _edge_garbage(rng), rng)
    for _ in range(4):
        world.injected("F16", who="stranger")
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", world.site.cloud_port)
            writer.write(rng.randbytes(rng.randrange(1, 100_000)))
            await writer.drain()
            writer.transport.abort()
    if world.edge.process.log_text().count("edgehub: joined cloudcore") != joined:
        world.problem("another node's garbage ended this node's session")


async def _talk(channel, messages, rng) -> None:
    call = channel.stream_stream(METHOD)()  # bytes in, bytes out
    with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError, TimeoutError):
        async with asyncio.timeout(1):
            for message in messages:
                await call.write(message)
            if rng.random() < 0.5:
                await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
    call.cancel()


def _edge_garbage(rng: random.Random) -> list[bytes]:
    hello = m.Hello(EVIL, rng.randbytes(16), rng.randbytes(16), 1, "evil", "boot")
    first = edge_to_wire(hello).SerializeToString()
    if rng.random() < 0.2:
        first = mutated(first, rng)
    frame = edge_to_wire(m.Frame(m.Lane.PODS, 1, encode_batch([_delta()]))).SerializeToString()
    samples = [
        first,
        frame,
        edge_to_wire(m.Inventory(rng.randbytes(160), last=True)).SerializeToString(),
        edge_to_wire(m.Inventory(rng.randbytes(7), last=False)).SerializeToString(),
        edge_to_wire(m.Ack(m.Lane.PODS, NEVER)).SerializeToString(),
        edge_to_wire(m.Frame(m.Lane.PODS, NEVER, b"\x01")).SerializeToString(),
        edge_to_wire(m.Frame(m.Lane.TWINS, 1, bad_batch(rng))).SerializeToString(),
        edge_to_wire(m.Pong(NEVER)).SerializeToString(),
        edge_to_wire(m.TunnelBytes(7, rng.randbytes(1000))).SerializeToString(),
        rng.randbytes(rng.randrange(1, 2000)),
        b"",
        bytes([0x1A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]),  # a frame that says it is 4 GiB
        rng.randbytes(4 << 20),  # above the message limit
    ]
    return [first, *(mutated(s, rng) if rng.random() < 0.5 else s for s in rng.sample(samples, 4))]


async def hostile_cloud(world: World, rng: random.Random) -> None:
    """A cloud with a good certificate sends garbage; then the real one is back."""
    port, good = free_port(), world.proxy.target
    pair = world.site.cloud_pair
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])

    async def serve(_requests, context):
        world.injected("F16", who="cloud")
        for message in _cloud_garbage(rng):
            await context.write(message)
        await asyncio.sleep(0.3)

    handler = grpc.stream_stream_rpc_method_handler(serve)
    service, method = METHOD.strip("/").split("/")
    generic = grpc.method_handlers_generic_handler(service, {method: handler})
    server.add_generic_rpc_handlers((generic,))
    credentials = grpc.ssl_server_credentials(
        [(pair.key_file.read_bytes(), pair.cert_file.read_bytes())],
        world.site.authority.pair.cert_file.read_bytes(),
        require_client_auth=True,
    )
    server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    world.proxy.target = ("127.0.0.1", port)
    await world.proxy.cut()
    await world.proxy.heal()
    await asyncio.sleep(3)
    world.proxy.target = good
    await world.proxy.cut()
    await server.stop(None)
    await world.proxy.heal()


def _cloud_garbage(rng: random.Random) -> list[bytes]:
    """Return messages that mean nothing; none may be mistaken for a frame or an acknowledgement that holds."""
    welcome = m.Welcome(rng.random() < 0.5, rng.choice((0.5, 0.0, 9999.0)), 16, "evil")
    samples = [
        cloud_to_wire(m.Ack(m.Lane.PODS, NEVER)).SerializeToString(),
        cloud_to_wire(m.Frame(m.Lane.PODS, NEVER, b"\x01")).SerializeToString(),
        cloud_to_wire(m.Frame(m.Lane.PODS, 1, bad_batch(rng))).SerializeToString(),
        cloud_to_wire(m.Frame(m.Lane.TWINS, 1, bad_batch(rng))).SerializeToString(),
        cloud_to_wire(m.Pong(NEVER)).SerializeToString(),
        cloud_to_wire(m.Synced()).SerializeToString(),
        cloud_to_wire(m.TunnelOpen(3, "nowhere")).SerializeToString(),
        cloud_to_wire(m.Close("X" * 9999, "\0\n" * 9999, 0.0)).SerializeToString(),
        b"",
        b"\xff" * rng.randrange(1, 50),
        bytes([0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]),
        rng.randbytes(4 << 20),
    ]
    first = cloud_to_wire(welcome).SerializeToString()
    return [*([first] if rng.random() < 0.8 else []), *rng.sample(samples, 3)]


def _delta() -> m.Delta:
    return m.Delta(m.Op.UPSERT, KEY, "u", 1, body=b'{"n":1}')


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return `content` with bits flipped, cut, or grown."""
    changed = bytearray(content)
    match rng.randrange(3):
        case 0:
            for _ in range(rng.randrange(1, 5)):
                if changed:
                    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        case 1:
            del changed[rng.randrange(len(changed) + 1) :]
        case _:
            changed += rng.randbytes(rng.randrange(1, 300))
    return bytes(changed)


def bad_batch(rng: random.Random) -> bytes:
    """Return a batch that surely does not decode."""
    while True:
        batch = mutated(encode_batch([_delta()] * rng.randrange(1, 4)), rng)
        try:
            decode_batch(batch)
        except FrameError:
            return batch


FAULTS = (
    Fault("F16-edge", hostile_edge, neighbour=True),
    Fault("F16-cloud", hostile_cloud),
)
