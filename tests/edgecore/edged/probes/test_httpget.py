"""The probes' HTTP client against real servers, well-behaved and not."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest

from corekit.pki import Authority, KeyPair
from edgecore.edged.probes.httpget import MAX_BODY_BYTES, HttpGetError, http_get


@contextlib.asynccontextmanager
async def server(answers, tls=None):
    """A server that gives each request the next answer; yields its port and the requests it read."""
    requests, rest, over = [], list(answers), asyncio.Event()
    open_ = set()

    async def serve(reader, writer):
        open_.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            answer = rest.pop(0) if len(rest) > 1 else rest[0]
            if answer is None:
                await over.wait()
            writer.write(answer or b"")
            await writer.drain()
        writer.transport.abort() if over.is_set() else writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield listening.sockets[0].getsockname()[1], requests
    finally:
        over.set()
        listening.close()
        await asyncio.gather(*open_, return_exceptions=True)


def answer(status=200, body=b"ok", **headers):
    lines = [f"HTTP/1.1 {status} Word", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode() + body


async def test_a_request_says_who_asks_and_carries_the_headers_of_the_probe():
    async with server([answer()]) as (port, requests):
        headers = [("X-Custom", "a b"), ("Accept", "text/plain"), ("X-Custom", "c")]
        got = await http_get(f"http://127.0.0.1:{port}/a%20b?q=1", headers, 3)
    assert got == (200, b"ok")
    first, *lines = requests[0].split("\r\n")
    assert first == "GET /a%20b?q=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}" in lines
    assert "User-Agent: kube-probe/1.32" in lines
    assert [line for line in lines if line.startswith(("Accept", "X-"))] == [
        "Accept: text/plain",
        "X-Custom: a b",
        "X-Custom: c",
    ]


async def test_a_host_header_replaces_our_own():
    async with server([answer()]) as (port, requests):
        await http_get(f"http://127.0.0.1:{port}/", [("Host", "example.com")], 3)
    assert requests[0].count("Host: ") == 1
    assert "Host: example.com" in requests[0]


async def test_redirects_within_the_host_are_followed_and_others_are_the_answer():
    moves = [answer(302, b"", Location="/next"), answer(302, b"see", Location="http://192.0.2.1/")]
    async with server(moves) as (port, requests):
        got = await http_get(f"http://127.0.0.1:{port}/", [], 3)
    assert got == (302, b"see")
    assert requests[1].startswith("GET /next ")


async def test_a_circle_of_redirects_ends():
    async with server([answer(301, b"", Location="/")]) as (port, requests):
        with pytest.raises(HttpGetError, match="stopped after 10 redirects"):
            await http_get(f"http://127.0.0.1:{port}/", [], 3)
    assert len(requests) == 11


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(answer(body=b"x" * 50_000), id="length"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 50_000, id="until-closed"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 12
            + b"0\r\n\r\n",
            id="chunked",
        ),
    ],
)
async def test_ten_kilobytes_of_a_body_are_read_and_no_more(raw):
    async with server([raw]) as (port, _):
        got = await http_get(f"http://127.0.0.1:{port}/", [], 3)
    assert (got.status, got.body) == (200, b"x" * MAX_BODY_BYTES)


async def test_a_certificate_is_not_verified(tmp_path):
    pair = KeyPair(tmp_path / "its.crt", tmp_path / "its.key")
    Authority(tmp_path, "nobody").issue(pair, "somebody-else", hosts=("example.com",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    async with server([answer()], context) as (port, _):
        assert (await http_get(f"https://127.0.0.1:{port}/", [], 3)).status == 200


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "EOF"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "headers of more than"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "invalid literal"),
        (b"", "EOF"),
    ],
)
async def test_a_server_that_speaks_no_http_is_a_failure_with_its_reason(raw, problem):
    async with server([raw]) as (port, _):
        with pytest.raises(HttpGetError) as caught:
            await http_get(f"http://127.0.0.1:{port}/x", [], 3)
    assert str(caught.value).startswith(f'Get "http://127.0.0.1:{port}/x": ')
    assert problem in str(caught.value)


async def test_a_server_that_says_nothing_costs_its_timeout():
    async with server([None]) as (port, _):
        with pytest.raises(HttpGetError, match="context deadline exceeded"):
            await http_get(f"http://127.0.0.1:{port}/", [], 0.1)


@pytest.mark.parametrize("header", [("X", "a\r\nY: b"), ("X:", "a"), ("", "a")])
async def test_a_header_that_would_be_two_is_refused(header):
    async with server([answer()]) as (port, requests):
        with pytest.raises(HttpGetError, match="invalid header"):
            await http_get(f"http://127.0.0.1:{port}/", [header], 3)
    assert requests == []
