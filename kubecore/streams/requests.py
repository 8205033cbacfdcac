"""What a client asks of a container, and the kubelet's path for it. Pure; words of refusals are upstream's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from kubecore.errors import bad_request
from kubecore.streams.channels import Wanted

Object = dict[str, Any]
_TRUE = ("true", "1", "True", "TRUE", "t", "T")
_LOG_NUMBERS = ("sinceSeconds", "tailLines", "limitBytes")
_LOG_FLAGS = ("follow", "previous", "timestamps")
_LOG_TEXTS = ("sinceTime", "stream")
# The kubelet's names of the streams.
_STREAMS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
# As a command line of the kernel; also what fits into one request head.
MAX_COMMAND_BYTES = 32 << 10


def node_of(pod: Object) -> str:
    """Return the node of `pod`. Raises:  ApiStatusError 400: it has none yet."""
    node: str = pod["spec"].get("nodeName") or ""
    if not node:
        raise bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
    return node


def container_of(pod: Object, wanted: str) -> str:
    """Return the container to talk to: the one named, or the only one. Raises:  ApiStatusError 400."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    names, init, ephemeral = (
        [c["name"] for c in spec.get(key) or ()]
        for key in ("containers", "initContainers", "ephemeralContainers")
    )
    if wanted:
        if wanted not in (*names, *init, *ephemeral):
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(names) == 1 and not init and not ephemeral:
        return str(names[0])
    problem = f"a container name must be specified for pod {name}, choose one of: {_shown(names)}"
    if init:
        problem += f" or one of the init containers: {_shown(init)}"
    if ephemeral:
        problem += f" or one of the ephemeral containers: {_shown(ephemeral)}"
    raise bad_request(problem)


def wanted_streams(query: Mapping[str, str]) -> Wanted:
    """Return the streams that the query asks for. Raises:  ApiStatusError 400: none."""
    flags = {name: query.get(name, "") in _TRUE for name in _STREAMS}
    if not (flags["stdin"] or flags["stdout"] or flags["stderr"]):
        raise bad_request("you must specify at least one of stdin, stdout, stderr")
    return Wanted(**flags)


def command_path(
    action: str, pod: Object, container: str, wanted: Wanted, command: Sequence[str] = ()
) -> str:
    """Return the kubelet's path of an `exec` or `attach`. Raises:  ApiStatusError 400."""
    if action == "exec" and not command:
        raise bad_request("you must specify at least one command for the container")
    if sum(len(part.encode()) for part in command) > MAX_COMMAND_BYTES:
        raise bad_request(f"command: longer than {MAX_COMMAND_BYTES} bytes")
    flags = {"stdin": wanted.stdin, "stdout": wanted.stdout, "tty": wanted.tty}
    flags["stderr"] = wanted.stderr and not wanted.tty
    query = [("command", part) for part in command]
    query += [(_STREAMS[name], "1") for name in _STREAMS if flags[name]]
    return _path(action, pod, container) + "?" + urlencode(query)


def forward_path(pod: Object, ports: Sequence[str]) -> str:
    """Return the kubelet's path of a port-forward; `ports` is for WebSocket clients. Raises:  ApiStatusError."""
    numbers = [port for text in ports for port in text.split(",") if port]
    for number in numbers:
        if not (number.isascii() and number.isdigit() and 0 < int(number[:6]) < 65536):
            raise bad_request(f"ports: {number[:20]!r} is not a port")
    metadata = pod["metadata"]
    path = f"/portForward/{quote(metadata['namespace'])}/{quote(metadata['name'])}"
    return f"{path}?{urlencode([('port', ','.join(numbers))])}" if numbers else path


def log_path(pod: Object, container: str, query: Mapping[str, str]) -> str:
    """Return the kubelet's path of a log. Raises:  ApiStatusError 400."""
    out = [(name, "true") for name in _LOG_FLAGS if query.get(name, "") in _TRUE]
    for name in _LOG_NUMBERS:
        text = query.get(name, "")
        if not text:
            continue
        least = 0 if name == "tailLines" else 1
        if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) < least:
            raise bad_request(f"{name}: {text[:40]!r} must be a whole number of {least} or more")
        out.append((name, text))
    out += [(name, query[name]) for name in _LOG_TEXTS if query.get(name)]
    if query.get("sinceTime") and query.get("sinceSeconds"):
        raise bad_request("at most one of `sinceTime` or `sinceSeconds` may be specified")
    path = _path("containerLogs", pod, container)
    return f"{path}?{urlencode(out)}" if out else path


def _path(action: str, pod: Object, container: str) -> str:
    metadata = pod["metadata"]
    parts = (action, metadata["namespace"], metadata["name"], container)
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _shown(names: list[str]) -> str:
    return f"[{' '.join(names)}]"
