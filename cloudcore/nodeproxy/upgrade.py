"""The runtime's answer to an upgrade, as it comes out of a node: 101 for what was asked, or a refusal.

The node may lie. So a redirect is never followed, only four headers pass, and nothing but a 101 that names the
protocol that the client asked for turns the connection into a pipe.
Source: CVE-2018-1002105, CVE-2020-8559: a node's answer to an upgrade must not lead anywhere else.
"""

from __future__ import annotations

from typing import Any

import h11

from corekit.bytestream import ByteStream
from corekit.errors import EdgeError
from synccore.targets import Upgrade

MAX_HEAD_BYTES = 16 << 10
# Of the runtime's own words about why not.
MAX_REASON_BYTES = 1024
_PASSED = (b"x-stream-protocol-version", b"sec-websocket-accept", b"sec-websocket-protocol")


class NotUpgradedError(EdgeError):
    """The runtime did not agree; `status` is what the client is told."""

    def __init__(self, status: int, problem: str) -> None:
        self.status = status
        super().__init__(problem)


async def read_answer(
    stream: ByteStream, upgrade: Upgrade, protocol: str
) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers for the client's 101, and what followed the runtime's.

    Raises:  NotUpgradedError; StreamBrokenError.
    """
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    asked = [("host", "node"), *upgrade.headers]
    if upgrade.method == "POST":
        asked.append(("content-length", "0"))
    http.send(h11.Request(method=upgrade.method, target="/", headers=asked))
    http.send(h11.EndOfMessage())
    try:
        event = await _next(http, stream)
        if isinstance(event, h11.InformationalResponse) and event.status_code == 101:
            return _switched(event, protocol), bytes(http.trailing_data[0])
        if isinstance(event, h11.Response):
            raise await _refusal(event, http, stream)
    except h11.RemoteProtocolError as exc:
        raise NotUpgradedError(502, f"the node answered what is no HTTP: {exc}") from exc
    raise NotUpgradedError(502, "the node answered an upgrade with something else")


async def _next(http: h11.Connection, stream: ByteStream) -> Any:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await stream.read())
    return event


def _switched(event: h11.InformationalResponse, protocol: str) -> list[tuple[str, str]]:
    found = dict(event.headers)
    if found.get(b"upgrade", b"").decode("latin-1").lower() != protocol:
        raise NotUpgradedError(502, "the node switched to a protocol that was not asked for")
    upgrade = found[b"upgrade"].decode("latin-1")
    headers = [("Connection", "Upgrade"), ("Upgrade", upgrade)]
    headers += [
        (name.decode("latin-1"), found[name].decode("latin-1")) for name in _PASSED if name in found
    ]
    return headers


async def _refusal(
    event: h11.Response, http: h11.Connection, stream: ByteStream
) -> NotUpgradedError:
    if not 400 <= event.status_code < 500:
        said = f"the node answered {event.status_code} to an upgrade"
        return NotUpgradedError(502, said)
    reason = b""
    while len(reason) < MAX_REASON_BYTES:
        part = await _next(http, stream)
        if not isinstance(part, h11.Data):
            break
        reason += part.data
    text = reason[:MAX_REASON_BYTES].decode("utf-8", "replace").strip()
    return NotUpgradedError(event.status_code, text or "the runtime refused the upgrade")
