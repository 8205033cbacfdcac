"""What a byte stream into a node leads to: the JSON of `TunnelOpen.target`, checked at both ends.

Field names are those of Kubernetes' own options (PodLogOptions, PodExecOptions).
Source: docs/protocol.md, section 7.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from corekit.errors import EdgeError

# Of namespaces, pods, containers and uids: nothing of a path can be in one.
Label = Annotated[
    str, msgspec.Meta(pattern=r"\A[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?\Z", max_length=253)
]
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
# What a client says about the protocol that its upgraded connection is to speak; nothing else of it travels.
UPGRADE_HEADERS = frozenset(
    {
        "connection",
        "upgrade",
        "x-stream-protocol-version",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
    }
)
# A header value: printable, so that it cannot end its line.
HeaderValue = Annotated[
    str, msgspec.Meta(pattern=r"\A[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?\Z", max_length=1024)
]

DOCUMENTS = (
    "pods",
    "runningpods",
    "stats/summary",
    "metrics",
    "metrics/resource",
    "metrics/cadvisor",
    "healthz",
    "configz",
)


class TargetError(EdgeError):
    """A target that is none; the message says why."""


class _Target(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="kind", omit_defaults=True
):
    pass


class Upgrade(msgspec.Struct, frozen=True, kw_only=True):
    """The client's wish to leave HTTP, as the runtime's streaming server will see it."""

    method: Literal["GET", "POST"]
    headers: Annotated[tuple[tuple[str, HeaderValue], ...], msgspec.Meta(max_length=16)]


class Logs(_Target, frozen=True, tag="logs"):
    """The log of one container, as text.

    Shapes:  since_time: RFC 3339. tail_lines, limit_bytes: None: all.
    """

    namespace: Label
    pod: Label
    container: Label
    uid: Label | None = None
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: Count | None = None
    limit_bytes: Count | None = None
    since_seconds: Count | None = None
    since_time: Annotated[str, msgspec.Meta(max_length=64)] = ""
    stream: Literal["All", "Stdout", "Stderr"] = "All"


class Exec(_Target, frozen=True, tag="exec"):
    """The runtime's streaming server, for a command in a container."""

    namespace: Label
    pod: Label
    container: Label
    upgrade: Upgrade
    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    uid: Label | None = None
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


class Attach(_Target, frozen=True, tag="attach"):
    """The runtime's streaming server, for the process of a container."""

    namespace: Label
    pod: Label
    container: Label
    upgrade: Upgrade
    uid: Label | None = None
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


class PortForward(_Target, frozen=True, tag="portForward"):
    """The runtime's streaming server, for ports of a pod; `ports` only where the client names them beforehand."""

    namespace: Label
    pod: Label
    upgrade: Upgrade
    uid: Label | None = None
    ports: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1, le=65535)], ...], msgspec.Meta(max_length=64)
    ] = ()


class Document(_Target, frozen=True, tag="document"):
    """Something the agent knows, whole; `name` is one of DOCUMENTS."""

    name: Literal[
        "pods",
        "runningpods",
        "stats/summary",
        "metrics",
        "metrics/resource",
        "metrics/cadvisor",
        "healthz",
        "configz",
    ]


Target = Logs | Exec | Attach | PortForward | Document
_decoder: msgspec.json.Decoder[Target] = msgspec.json.Decoder(Target)


def encode_target(target: Target) -> str:
    """Return the text for `TunnelOpen.target`. Raises: TargetError: a value that no node would take."""
    text = msgspec.json.encode(target).decode()
    decode_target(text)  # a struct that was built by hand is not checked yet
    return text


def decode_target(text: str) -> Target:
    """Return what the text names. Raises: TargetError."""
    try:
        target: Target = _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise TargetError(str(exc)) from exc
    upgrade = getattr(target, "upgrade", None)
    for name, _ in upgrade.headers if upgrade else ():
        if name not in UPGRADE_HEADERS:
            raise TargetError(f"header {name[:64]!r} does not belong to an upgrade")
    return target
