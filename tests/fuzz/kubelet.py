"""Decoders of the kubelet API: what a client asks, what a node answers, what a cloud names, what a container logs."""

from __future__ import annotations

import json

from cloudcore.nodeproxy.routes import Request, RouteError, Upgraded, question, route
from cloudcore.nodeproxy.upgrade import NotUpgradedError, read_answer
from corekit.bytestream import ByteStream
from edgecore.edged.kubelet.criformat import LineRenderer, parse_time
from synccore.targets import TargetError, Upgrade, decode_target, encode_target


class _Nowhere:
    """A stream's port that nobody listens at."""

    def room(self) -> int:
        return 0

    def send(self, content: bytes, *, end: bool = False) -> None:
        pass

    def consumed(self, size_bytes: int) -> None:
        pass

    def close(self, error: str) -> None:
        pass


def kubelet_request(raw: bytes) -> None:
    """A request line and headers, one a line; what is routed must survive the way to the node."""
    head, *lines = raw.decode("latin-1").split("\n")
    method, _, target = head.partition(" ")
    headers = [(name.lower(), value) for name, _, value in (x.partition(":") for x in lines)]
    request = Request(method, target, headers)
    question("edge-1", request)
    try:
        wanted = route(request)
        text = encode_target(wanted.target)
    except (RouteError, TargetError):
        return
    if decode_target(text) != wanted.target:
        raise AssertionError("a target does not survive its text")
    if (
        isinstance(wanted, Upgraded)
        and "bearer" in json.dumps(text).lower()
        and "command" not in target
    ):
        raise AssertionError("a token travels")


def kubelet_target(raw: bytes) -> None:
    """A stream's target, as an edge gets it."""
    try:
        target = decode_target(raw.decode("utf-8", "replace"))
    except TargetError:
        return
    for part in ("namespace", "pod", "container", "uid"):
        name = getattr(target, part, None) or "x"
        if "/" in name or name in (".", "..") or "\n" in name:
            raise AssertionError(f"{part} {name!r} could be part of a path")


def upgrade_answer(raw: bytes) -> None:
    """A node's answer to an upgrade: nothing but a 101 for what was asked leads on, and with four headers only."""
    upgrade = Upgrade(method="POST", headers=(("connection", "Upgrade"), ("upgrade", "SPDY/3.1")))
    stream = ByteStream(_Nowhere())
    stream.feed(raw, end=True)
    reading = read_answer(stream, upgrade, "spdy/3.1")
    try:
        reading.send(None)  # all of it is there: it never waits
    except NotUpgradedError as exc:
        if not (400 <= exc.status < 500 or exc.status == 502):
            raise AssertionError(f"a client is told {exc.status}") from exc
    except StopIteration as done:
        headers, _ = done.value
        if any(name.lower() == "location" for name, _ in headers) or len(headers) > 5:
            raise AssertionError("a header of the node's own choice passed") from done
    finally:
        reading.close()


def container_log(raw: bytes) -> None:
    """A block of a log file, with every option: the parts of one stream are never more than both together."""
    block = raw if raw.endswith(b"\n") else raw + b"\n"
    both = LineRenderer().render(block)
    parts = [LineRenderer(stream=name).render(block) for name in ("Stdout", "Stderr")]
    if sum(map(len, parts)) != len(both):
        raise AssertionError("a line belongs to both streams or to none")
    if len(LineRenderer(timestamps=True, since_ns=1, limit_bytes=7).render(block)) > 7:
        raise AssertionError("more than the limit")
    try:
        parse_time(raw[:64].decode("latin-1"))
    except ValueError:
        return
