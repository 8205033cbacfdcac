"""Logs of containers, with every option of PodLogOptions, followed until the container has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from corekit.bytestream import ByteStream
from edgecore.edged.kubelet.criformat import LineRenderer, parse_time
from edgecore.edged.kubelet.logfile import LogFile
from edgecore.edged.kubelet.podview import PodEntry, container_status
from edgecore.edged.runtime import ContainerPhase, SandboxState
from edgecore.streams import Accept, StreamRefusedError
from synccore.targets import Logs
from synccore.tunnels import BAD_REQUEST

# A line is seen this long after it was written at most; looking costs two system calls.
POLL_S = 0.1
# While nothing is written: whether the container still runs.
CHECK_S = 1.0

Sandboxes = Callable[[str], Awaitable[list[SandboxState]]]


async def serve_logs(
    target: Logs,
    pod: PodEntry,
    status: Mapping[str, Any] | None,
    log_root: Path,
    sandboxes: Sandboxes,
    accept: Accept,
) -> None:
    """Write the log to the stream until it ends. Raises: StreamRefusedError: there is none, with kubelet's words."""
    pod.container(target.container)
    renderer = _renderer(target)
    uid = pod.metadata.uid
    attempt = choose_attempt(target, pod, status, await sandboxes(uid))
    path = log_root / pod.full_name / target.container / f"{attempt}.log"
    log = await asyncio.to_thread(_opened, path, target)
    try:
        stream = accept()
        await _copy(log, renderer, stream)

        async def ended() -> bool:
            return not _runs(await sandboxes(uid), target.container, attempt)

        if target.follow and not target.previous:
            await _follow(log, renderer, stream, ended)
    finally:
        log.close()


def choose_attempt(
    target: Logs,
    pod: PodEntry,
    status: Mapping[str, Any] | None,
    sandboxes: list[SandboxState],
) -> int:
    """Return which attempt's log is meant. Raises: StreamRefusedError.

    Source: kubelet's validateContainerLogStatus: the state that was reported decides, not what runs this instant.
    """
    name, where = target.container, f'in pod "{pod.metadata.name}"'
    known = container_status(status, name)
    state, last = known.get("state") or {}, (known.get("lastState") or {}).get("terminated")
    restarts = int(known.get("restartCount") or 0)
    attempts = {c.id: c.attempt for s in sandboxes for c in s.containers if c.name == name}

    def attempt_of(part: Mapping[str, Any], otherwise: int) -> int:
        container_id = str(part.get("containerID") or "").rpartition("//")[2]
        return attempts.get(container_id, otherwise)

    began = "running" in state or "terminated" in state
    if target.previous:
        if not last:
            problem = f'previous terminated container "{name}" {where} not found'
            raise StreamRefusedError(BAD_REQUEST, problem)
        return attempt_of(last, max(0, restarts - 1) if began else restarts)
    if "running" in state:
        return attempt_of(known, restarts)
    if "terminated" in state:
        return attempt_of(state["terminated"], restarts)
    if last:  # it waits to be started again
        return attempt_of(last, restarts)
    started = list(attempts.values())
    if started and not state:  # no status was reported yet, and it runs
        return max(started)
    reason = (state.get("waiting") or {}).get("reason") or "ContainerCreating"
    why = _WAITING.get(reason, f"is waiting to start: {reason}")
    raise StreamRefusedError(BAD_REQUEST, f'container "{name}" {where} {why}')


_WAITING = {
    "ErrImagePull": "is waiting to start: image can't be pulled",
    "ImagePullBackOff": "is waiting to start: trying and failing to pull image",
}


def _renderer(target: Logs) -> LineRenderer:
    since_ns = 0
    if target.since_seconds is not None and target.since_time:
        raise StreamRefusedError(BAD_REQUEST, "only one of sinceSeconds and sinceTime may be given")
    if target.since_seconds is not None:
        since_ns = max(1, time.time_ns() - target.since_seconds * 1_000_000_000)
    if target.since_time:
        try:
            since_ns = parse_time(target.since_time)
        except ValueError as exc:
            raise StreamRefusedError(BAD_REQUEST, f"sinceTime: {exc}") from exc
    return LineRenderer(
        timestamps=target.timestamps,
        since_ns=since_ns,
        limit_bytes=target.limit_bytes,
        stream=target.stream,
    )


def _opened(path: Path, target: Logs) -> LogFile:
    try:
        log = LogFile(path)
    except OSError as exc:
        problem = (
            f'failed to open log file of container "{target.container}": {exc.strerror or exc}'
        )
        raise StreamRefusedError(BAD_REQUEST, problem) from exc
    if target.tail_lines is not None:
        log.seek_tail(target.tail_lines)
    return log


async def _copy(log: LogFile, renderer: LineRenderer, stream: ByteStream) -> bool:
    """Write what there is; return whether there was anything."""
    any_bytes = False
    while not renderer.full:
        out, read = await asyncio.to_thread(_next, log, renderer)
        if not read:
            break
        any_bytes = True
        await stream.write(out)
    return any_bytes


def _next(log: LogFile, renderer: LineRenderer) -> tuple[bytes, bool]:
    lines = log.read_lines()
    return renderer.render(lines), bool(lines)


async def _follow(
    log: LogFile, renderer: LineRenderer, stream: ByteStream, ended: Callable[[], Awaitable[bool]]
) -> None:
    checked_s = time.monotonic()
    while not renderer.full:
        if await _copy(log, renderer, stream) or await asyncio.to_thread(log.rotated):
            continue
        if time.monotonic() - checked_s >= CHECK_S:
            if await ended():
                await _copy(log, renderer, stream)  # its last words came while we asked
                return
            checked_s = time.monotonic()
        await asyncio.sleep(POLL_S)


def _runs(sandboxes: list[SandboxState], name: str, attempt: int) -> bool:
    return any(
        c.name == name and c.attempt == attempt and c.phase is not ContainerPhase.EXITED
        for sandbox in sandboxes
        for c in sandbox.containers
    )
