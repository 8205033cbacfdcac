"""The socket between the MQTT library and the broker, on real sockets: what passes the library by, and what does not."""

import asyncio
import socket

import pytest

from edgecore.eventbus import wire as wire_module
from edgecore.eventbus._packets_py import encode_acks, encode_publishes
from edgecore.eventbus.wire import CUT_BYTES, MAX_PACKET_BYTES, Wire

pytestmark = pytest.mark.timeout(30)
PINGRESP = b"\xd0\x00"


class Seen:
    """The peer of a wire: writes down what it is told."""

    def __init__(self):
        self.messages, self.answers, self.problems = [], 0, []
        self.roomy = asyncio.Event()

    def received(self, publishes):
        self.messages += publishes

    def answered(self, count):
        self.answers += count

    def writable(self):
        self.roomy.set()

    def broken(self, problem):
        self.problems.append(problem)


class Library:
    """Reads as paho does: the head of a packet, then the rest; nothing there is no error."""

    def __init__(self, wire):
        self._wire = wire
        self.read, self.ended = b"", False

    def __call__(self):
        try:
            while fresh := self._wire.recv(1):
                self.read += fresh
            self.ended = True
            self._wire.close()
        except BlockingIOError:
            pass


@pytest.fixture
async def linked():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    seen = Seen()
    wire = Wire(near, seen, asyncio.get_running_loop(), modern=False)
    library = Library(wire)
    wire.start(library)
    yield wire, far, seen, library
    wire.close()
    far.close()


async def until(holds):
    while not holds():
        await asyncio.sleep(0.001)


async def test_messages_pass_the_library_by_and_the_rest_reaches_it(linked):
    _, far, seen, library = linked
    messages = [("t", b"a", 1), ("u", b"b", 2)]
    stream = encode_publishes([m[:2] for m in messages], [1, 2], modern=False)
    stream = PINGRESP + stream + encode_acks([5, 6, 7]) + PINGRESP
    for byte in stream:  # in pieces as small as they can be
        far.send(bytes([byte]))
        await asyncio.sleep(0)
    await until(lambda: len(library.read) == 4)
    assert library.read == PINGRESP * 2
    assert (seen.messages, seen.answers) == (messages, 3)
    far.close()
    await until(lambda: library.ended)


async def test_messages_are_a_sign_of_life_to_the_library():
    near, far = socket.socketpair()
    near.setblocking(False)
    seen = Seen()
    wire = Wire(near, seen, asyncio.get_running_loop(), modern=False, alive_s=0)
    library = Library(wire)
    wire.start(library)
    far.send(encode_publishes([("t", b"a")], [1], modern=False))
    await until(lambda: seen.messages)
    await until(lambda: library.read)
    assert library.read == PINGRESP
    wire.close()
    far.close()


async def test_nothing_is_read_while_it_is_paused(linked):
    wire, far, seen, _ = linked
    wire.pause()
    far.send(encode_publishes([("t", b"a")], [1], modern=False))
    for _ in range(20):
        await asyncio.sleep(0)
    assert seen.messages == []
    wire.resume()
    await until(lambda: seen.messages)


async def test_what_the_kernel_has_no_room_for_follows_in_order(linked):
    wire, far, seen, _ = linked
    sent = b""
    while not wire.blocked:
        part = encode_publishes([("t", bytes(50_000))], [1 + len(sent) % 65_535], modern=False)
        sent += part
        wire.write(part)
    wire.send(PINGRESP)  # the library's own comes behind it
    sent += PINGRESP
    got = b""
    while len(got) < len(sent):
        got += await asyncio.get_running_loop().sock_recv(far, 1 << 20)
    assert got == sent
    await asyncio.wait_for(seen.roomy.wait(), 10)
    assert not wire.blocked


async def test_what_cannot_be_read_ends_it_and_is_said(linked):
    _, far, seen, _ = linked
    far.send(b"\x36\x00" + PINGRESP)
    await until(lambda: seen.problems)
    assert seen.problems == ["PUBLISH at a QoS that was not asked for at byte 0"]


async def test_whatever_the_library_raises_ends_the_connection_only(linked):
    wire, far, seen, _ = linked
    wire.pause()

    def raises():
        wire.recv(1)
        raise IndexError("bytearray index out of range")

    wire.start(raises)
    far.send(PINGRESP)
    await until(lambda: seen.problems)
    assert seen.problems == ["IndexError: bytearray index out of range"]


async def test_a_message_beyond_all_limits_is_cut_and_what_follows_is_whole(linked):
    _, far, seen, _ = linked
    loop = asyncio.get_running_loop()
    huge = encode_publishes([("t", b"x" * (MAX_PACKET_BYTES + 1))], [7], modern=False)
    await loop.sock_sendall(far, huge + encode_publishes([("u", b"y")], [8], modern=False))
    await until(lambda: len(seen.messages) == 2)
    (topic, payload, packet_id), after = seen.messages
    assert (topic, packet_id, after) == ("t", 7, ("u", b"y", 8))
    assert CUT_BYTES - 100 < len(payload) <= CUT_BYTES + wire_module.READ_BYTES


async def test_a_packet_of_the_library_beyond_all_limits_ends_it(linked):
    _, far, seen, _ = linked
    loop = asyncio.get_running_loop()
    sending = loop.create_task(loop.sock_sendall(far, b"\x90\xff\xff\xff\x7f" + bytes(1 << 20)))
    await until(lambda: seen.problems)
    assert seen.problems == ["a packet of 268435460 bytes that is no message at byte 0"]
    sending.cancel()
    await asyncio.wait([sending])
