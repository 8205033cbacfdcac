"""The proxy itself, in process and as a process: what it claims of a broken link is so."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.fakes import tcp_proxy
from tests.fakes.tcp_proxy import DOWN, UP, TcpProxy


@asynccontextmanager
async def echo_server():
    """Serve an echo on loopback; yield its port."""

    async def echo(reader, writer):
        with suppress(OSError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def proxied():
    async with echo_server() as port, TcpProxy("127.0.0.1", port) as proxy:
        yield proxy


@asynccontextmanager
async def connected(proxy):
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def echoes(reader, writer, message=b"ping"):
    writer.write(message)
    return await reader.readexactly(len(message)) == message


async def is_silent(reader, for_s=0.05):
    try:
        async with asyncio.timeout(for_s):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


async def test_a_healthy_link_forwards_both_ways_and_counts():
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        assert await echoes(reader, writer, bytes(1 << 20))
        assert proxy.passed_bytes == {UP: 1 << 20, DOWN: 1 << 20}


async def test_the_end_of_a_stream_is_forwarded():
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        writer.write(b"last words")
        writer.write_eof()
        assert await reader.read() == b"last words"


async def test_a_cut_resets_connections_and_refuses_new_ones_until_healed():
    async with proxied() as proxy:
        port = proxy.port
        async with connected(proxy) as (reader, writer):
            assert await echoes(reader, writer)
            await proxy.cut()
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await proxy.heal()
        assert proxy.port == port
        async with connected(proxy) as (reader, writer):
            assert await echoes(reader, writer)


async def test_a_black_hole_keeps_connections_open_and_lets_nothing_through():
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        assert await echoes(reader, writer)
        await proxy.black_hole()
        writer.write(b"lost")
        assert await is_silent(reader)
        async with connected(proxy) as (new_reader, new_writer):
            new_writer.write(b"lost too")
            assert await is_silent(new_reader)
        assert proxy.dropped_bytes[UP] >= 8


async def test_a_black_hole_swallows_the_end_of_a_connection():
    ended = asyncio.Event()

    async def wait_for_end(reader, writer):
        with suppress(OSError):
            await reader.read()
        ended.set()
        writer.close()

    async with await asyncio.start_server(wait_for_end, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with TcpProxy("127.0.0.1", port) as proxy:
            async with connected(proxy) as (_, writer):
                writer.write(b"x")
                await until(lambda: proxy.passed_bytes[UP])
                await proxy.black_hole()
            await asyncio.sleep(0.05)
            assert not ended.is_set()
            await proxy.heal()
            await ended.wait()


async def test_what_lost_bytes_is_reset_when_healed_and_what_did_not_goes_on():
    async with proxied() as proxy, connected(proxy) as silent, connected(proxy) as talker:
        assert await echoes(*silent)
        assert await echoes(*talker)
        await proxy.black_hole()
        talker[1].write(b"lost")
        await until(lambda: proxy.dropped_bytes[UP])
        await proxy.heal()
        with pytest.raises(ConnectionResetError):
            await talker[0].read(1)
        assert await echoes(*silent)


async def test_a_one_way_black_hole_lets_the_other_way_through():
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        assert await echoes(reader, writer)
        await proxy.black_hole(frozenset({DOWN}))
        writer.write(b"arrives")
        assert await is_silent(reader)
        assert proxy.passed_bytes[UP] == 4 + 7
        assert proxy.dropped_bytes == {UP: 0, DOWN: 7}


async def test_a_stall_delivers_everything_after_it():
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        assert await echoes(reader, writer)
        await proxy.stall()
        writer.write(b"late")
        assert await is_silent(reader)
        await proxy.heal()
        assert await reader.readexactly(4) == b"late"


async def test_a_slow_link_is_late_and_loses_nothing():
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        proxy.slow(latency_s=0.02, jitter_s=0.02, bytes_per_s=1_000_000)
        clock = asyncio.get_running_loop()
        began_s = clock.time()
        assert await echoes(reader, writer, bytes(10_000))
        assert clock.time() - began_s >= 0.05  # twice the latency, and the bytes once


async def test_a_target_that_is_down_ends_the_connection():
    async with echo_server() as port:
        pass
    async with TcpProxy("127.0.0.1", port) as proxy, connected(proxy) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read(1)


@pytest.mark.timeout(20)
async def test_as_a_process_it_obeys_its_control_socket(tmp_path):
    control = tmp_path / "control"
    script = Path(tcp_proxy.__file__)
    async with echo_server() as port:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            script,
            *("--target", f"127.0.0.1:{port}", "--control", control),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            word, address = (await process.stdout.readline()).decode().split()
            assert word == "listening"
            proxy_port = int(address.rpartition(":")[2])
            reader, writer = await asyncio.open_unix_connection(control)

            async def command(text):
                writer.write(text.encode() + b"\n")
                return (await reader.readline()).decode().strip()

            link = await asyncio.open_connection("127.0.0.1", proxy_port)
            assert await echoes(*link)
            assert await command("black_hole down") == "ok"
            assert json.loads(await command("stats"))["link"] == "black hole"
            assert await command("cut") == "ok"
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", proxy_port)
            assert await command("heal") == "ok"
            assert (await command("explode")).startswith("error: 'explode' is none of cut")
            for end in (link[1], writer):
                end.transport.abort()
        finally:
            process.terminate()
            assert await process.wait() == 0
    assert not control.exists()
