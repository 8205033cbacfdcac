"""One HTTP GET as kubelet's probes make it: small, bounded, certificates not verified, redirects within the host.

Not a library: those at hand cost 10 MB of the agent's memory, and all that a probe needs is a status line.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from corekit.errors import EdgeError

MAX_BODY_BYTES = 10 << 10  # kubelet's; the rest is not read
MAX_HEADER_BYTES = 64 << 10  # a probe's answer has no business with more
MAX_REDIRECTS = 10  # Go's client
USER_AGENT = "kube-probe/1.32"
_REDIRECTS = (301, 302, 303, 307, 308)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_UNFIT = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class HttpGetError(EdgeError):
    """No answer could be had; the message is what Go's client would say."""


class HttpAnswer(NamedTuple):
    """The last answer; `body` has at most MAX_BODY_BYTES."""

    status: int
    body: bytes


def join_address(host: str, port: int) -> str:
    """Return `host:port`, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def http_get(url: str, headers: Sequence[tuple[str, str]], timeout_s: float) -> HttpAnswer:
    """Return the answer to a GET of `url`, redirects followed while they stay on its host.

    Raises:  HttpGetError.
    """
    host, current = urlsplit(url).hostname, url
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(MAX_REDIRECTS + 1):
                answer, location = await _get_once(urlsplit(current), headers)
                if answer.status not in _REDIRECTS or not location:
                    return answer
                target = urljoin(current, location)
                if urlsplit(target).hostname != host or not target.startswith("http"):
                    return answer
                current = target
        raise HttpGetError(f'Get "{current}": stopped after {MAX_REDIRECTS} redirects')
    except TimeoutError as exc:
        reason = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        raise HttpGetError(f'Get "{current}": {reason}') from exc
    except (OSError, ValueError, asyncio.IncompleteReadError) as exc:
        raise HttpGetError(f'Get "{current}": {_problem(exc, current)}') from exc


async def _get_once(
    parts: SplitResult, headers: Sequence[tuple[str, str]]
) -> tuple[HttpAnswer, str]:
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    request = _request(parts, join_address(host, port), headers)
    reader, writer = await asyncio.open_connection(
        host, port, ssl=_unverified() if secure else None, limit=MAX_HEADER_BYTES
    )
    try:
        writer.write(request)
        await writer.drain()
        status, fields = await _head(reader)
        return HttpAnswer(status, await _body(reader, fields)), fields.get("location", "")
    finally:
        writer.close()
        transport = writer.transport
        transport.abort()  # a peer that does not close would keep a TLS shutdown waiting


def _request(parts: SplitResult, address: str, headers: Sequence[tuple[str, str]]) -> bytes:
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = "?" + quote(parts.query, safe="/%:@!$&'()*+,;=?~-._") if parts.query else ""
    fields = {"host": ("Host", address), "user-agent": ("User-Agent", USER_AGENT)}
    fields |= {"accept": ("Accept", "*/*"), "connection": ("Connection", "close")}
    extra: list[tuple[str, str]] = []
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or _UNFIT.search(value):
            raise ValueError(f"net/http: invalid header field {name!r}")
        if name.lower() in fields:
            fields[name.lower()] = (name, value)
        else:
            extra.append((name, value))
    lines = [f"{name}: {value}" for name, value in (*fields.values(), *extra) if value]
    return "\r\n".join((f"GET {path}{query} HTTP/1.1", *lines, "", "")).encode()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    while True:
        try:
            block = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as exc:
            raise ValueError(f"headers of more than {MAX_HEADER_BYTES} bytes") from exc
        first, *lines = block.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise ValueError(f"malformed HTTP response {first[:100]!r}")
        status = int(words[1])
        if status >= 200 or status == 101:
            pairs = (line.partition(":") for line in lines if ":" in line)
            return status, {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if fields.get("transfer-encoding", "").lower() == "chunked":
        return await _chunks(reader)
    length = fields.get("content-length", "")
    wanted = min(int(length), MAX_BODY_BYTES) if length.isdigit() else MAX_BODY_BYTES
    if length.isdigit():
        return await reader.readexactly(wanted)
    body = b""
    while len(body) < wanted and (part := await reader.read(wanted - len(body))):
        body += part
    return body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while len(body) < MAX_BODY_BYTES:
        size = int((await reader.readline()).split(b";")[0], 16)
        if size <= 0:
            break
        body += await reader.readexactly(min(size, MAX_BODY_BYTES - len(body)))
        with suppress(asyncio.IncompleteReadError):
            if len(body) < MAX_BODY_BYTES:
                await reader.readexactly(2)
    return body


@cache
def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _problem(exc: Exception, url: str) -> str:
    """Return what Go would say of `exc`."""
    parts = urlsplit(url)
    if isinstance(exc, ConnectionRefusedError):
        return dial_problem(exc, join_address(parts.hostname or "", parts.port or 80))
    if isinstance(exc, asyncio.IncompleteReadError):
        return "EOF"
    return str(exc)


def dial_problem(exc: OSError, address: str) -> str:
    """Return Go's words for a connection that could not be made."""
    word = exc.strerror or str(exc)
    if isinstance(exc, ConnectionRefusedError):
        word = "connection refused"
    return f"dial tcp {address}: connect: {word.lower()}"
