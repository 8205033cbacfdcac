"""From a request's method, path and query to what is asked of the node; pure.

Source: kubelet's pkg/kubelet/server, its paths, parameters and authorizer attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, unquote

from cloudcore.nodeproxy.access import Question
from corekit.errors import EdgeError
from synccore.targets import DOCUMENTS, Attach, Document, Exec, Logs, PortForward, Upgrade

_VERBS = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_UPGRADED = ("exec", "attach", "portForward")
# Where kubelet asks for something else than nodes/proxy.
_SUBRESOURCES = {"stats": "stats", "metrics": "metrics", "logs": "log"}
_CONTENT_TYPES = {
    "healthz": "text/plain; charset=utf-8",
    "metrics": "text/plain; version=0.0.4; charset=utf-8",
    "metrics/resource": "text/plain; version=0.0.4; charset=utf-8",
    "metrics/cadvisor": "text/plain; version=0.0.4; charset=utf-8",
}
_ROOMS = frozenset({*_UPGRADED, "containerLogs", *(name.split("/")[0] for name in DOCUMENTS)})
# Of a path or query that is not too long already.
MAX_PARAMETERS = 1024


class RouteError(EdgeError):
    """A request that is not served; `status` is HTTP's."""

    def __init__(self, status: int, problem: str) -> None:
        self.status = status
        super().__init__(problem)


@dataclass(frozen=True)
class Request:
    """A request's head. Shapes: headers: names in lower case, repeated ones each, in order."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]

    @property
    def path(self) -> str:
        """What stands before the first question mark, escaped as it came."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What stands behind it."""
        return self.target.partition("?")[2]

    def header(self, name: str) -> str:
        """Return the values of a header, joined as HTTP joins them; "" if there is none."""
        return ", ".join(self.all(name))

    def all(self, name: str) -> list[str]:
        """Return the values of a header, each as it came."""
        return [value for one, value in self.headers if one == name]


@dataclass(frozen=True)
class Plain:
    """Answer with what comes out of `target`, as it comes."""

    target: Logs | Document
    content_type: str


@dataclass(frozen=True)
class Upgraded:
    """Leave HTTP for `protocol`, if the node's runtime agrees."""

    target: Exec | Attach | PortForward
    protocol: str


def question(node: str, request: Request) -> Question:
    """Return what the cluster is asked about this request."""
    first = request.path.split("/")[1:2]
    room = first[0] if first else ""
    verb = _VERBS.get(request.method, "")
    if room in _UPGRADED:
        # Stricter than kubelet, which asks about `get` when a WebSocket client runs a command by GET.
        verb = "create"
    return Question(node, verb, _SUBRESOURCES.get(room, "proxy"))


def asked_for(request: Request) -> str:
    """Return a word for what a request is about, of a few: what a counter may be told apart by."""
    room = request.path.split("/")[1:2]
    return room[0] if room and room[0] in _ROOMS else "other"


def route(request: Request) -> Plain | Upgraded:
    """Return what is asked. Raises: RouteError."""
    path = [unquote(part) for part in request.path.strip("/").split("/")]
    document = "/".join(path)
    room = path[0]
    if document.lower() == "runningpods":
        document = "runningpods"
    if document in DOCUMENTS:
        _require(request, "GET", "HEAD")
        kind = _CONTENT_TYPES.get(document, "application/json")
        return Plain(Document(name=document), kind)  # type: ignore[arg-type]  # one of them, as was just asked
    try:
        query = parse_qs(request.query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError as exc:
        raise RouteError(400, str(exc)) from exc
    if room == "containerLogs" and len(path) == 4:
        _require(request, "GET")
        return Plain(_logs(path, query), "text/plain; charset=utf-8")
    if room in _UPGRADED:
        _require(request, "GET", "POST")
        return _upgraded(room, path, query, request)
    raise RouteError(404, "404 page not found")


def _upgraded(
    room: str, path: Sequence[str], query: Mapping[str, list[str]], request: Request
) -> Upgraded:
    upgrade, protocol = _upgrade(request)
    names = list(path[1:])
    wanted = 2 if room == "portForward" else 3
    if len(names) not in (wanted, wanted + 1):
        raise RouteError(404, "404 page not found")
    uid = names.pop(2) if len(names) > wanted else None
    if room == "portForward":
        ports = tuple(_number("port", text) for text in query.get("port", ()))
        forward = PortForward(
            namespace=names[0], pod=names[1], uid=uid, upgrade=upgrade, ports=ports
        )
        return Upgraded(forward, protocol)
    pipes = {
        field: _flag(query, name)
        for field, name in (
            ("stdin", "input"),
            ("stdout", "output"),
            ("stderr", "error"),
            ("tty", "tty"),
        )
    }
    if not (pipes["stdin"] or pipes["stdout"] or pipes["stderr"]):
        raise RouteError(400, "you must specify at least 1 of stdin, stdout, stderr")
    if pipes["tty"]:
        pipes["stderr"] = False  # there is one stream only, and it comes as stdout
    common = {"namespace": names[0], "pod": names[1], "container": names[2], "uid": uid}
    if room == "attach":
        return Upgraded(Attach(**common, **pipes, upgrade=upgrade), protocol)  # type: ignore[arg-type]
    command = tuple(query.get("command", ()))
    if not command:
        raise RouteError(400, "you must specify a command")
    return Upgraded(Exec(**common, **pipes, upgrade=upgrade, command=command), protocol)  # type: ignore[arg-type]


def _upgrade(request: Request) -> tuple[Upgrade, str]:
    tokens = {token.strip().lower() for token in request.header("connection").split(",")}
    protocol = request.header("upgrade").strip()
    if "upgrade" not in tokens or protocol.lower() not in ("spdy/3.1", "websocket"):
        raise RouteError(400, "an upgrade to SPDY/3.1 or websocket is required")
    if protocol.lower() == "websocket" and request.method != "GET":
        raise RouteError(405, "a WebSocket begins with GET")
    passed = [("connection", "Upgrade"), ("upgrade", protocol)]
    names = ("x-stream-protocol-version", "sec-websocket-key", "sec-websocket-version")
    # Each by itself: runtimes of an age read repeated headers, and not lists in one.
    passed += [(name, value) for name in names for value in request.all(name)]
    offered = [one.strip() for one in request.header("sec-websocket-protocol").split(",")]
    # A token may hide among the protocols; it is for us, and the node must not see it.
    offered = [one for one in offered if one and not one.startswith("base64url.bearer.")]
    if offered:
        passed.append(("sec-websocket-protocol", ", ".join(offered)))
    method: Literal["GET", "POST"] = "GET" if request.method == "GET" else "POST"
    return Upgrade(method=method, headers=tuple(passed)), protocol.lower()


def _logs(path: Sequence[str], query: Mapping[str, list[str]]) -> Logs:
    def number(name: str) -> int | None:
        return _number(name, query[name][0]) if query.get(name) else None

    stream = query.get("stream", ["All"])[0] or "All"
    if stream not in ("All", "Stdout", "Stderr"):
        raise RouteError(400, f"stream: {stream!r} is not one of All, Stdout, Stderr")
    if stream != "All" and query.get("tailLines"):
        raise RouteError(400, "tailLines and a specific stream cannot both be given")
    limit_bytes = number("limitBytes")
    if limit_bytes == 0:
        raise RouteError(422, "limitBytes: must be greater than 0")
    return Logs(
        namespace=path[1],
        pod=path[2],
        container=path[3],
        follow=_flag(query, "follow"),
        previous=_flag(query, "previous"),
        timestamps=_flag(query, "timestamps"),
        tail_lines=number("tailLines"),
        limit_bytes=limit_bytes,
        since_seconds=number("sinceSeconds"),
        since_time=query.get("sinceTime", [""])[0],
        stream=stream,  # type: ignore[arg-type]  # checked above
    )


def _require(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise RouteError(405, f"{request.method} is not allowed here")


def _flag(query: Mapping[str, list[str]], name: str) -> bool:
    return query.get(name, ["0"])[0].lower() in ("1", "true", "t", "yes")


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise RouteError(422, f"{name}: {text[:40]!r} is not a number of 0 or more")
    return int(text)
