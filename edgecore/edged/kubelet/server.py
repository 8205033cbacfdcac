"""Serves each byte stream that cloudcore opens: finds what its target names, and hands it over."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from edgecore.edged.kubelet.documents import Documents
from edgecore.edged.kubelet.logs import serve_logs
from edgecore.edged.kubelet.podview import StatusView, find_pod, running
from edgecore.edged.kubelet.streaming import pipe_to
from edgecore.edged.runtime import (
    ContainerRuntime,
    Pipes,
    RuntimeUnavailableError,
    SandboxState,
    StreamingRefusedError,
)
from edgecore.records import RecordStore
from edgecore.streams import Accept, StreamRefusedError
from synccore.targets import (
    Attach,
    Document,
    Exec,
    Logs,
    PortForward,
    TargetError,
    decode_target,
)
from synccore.tunnels import BAD_REQUEST, NOT_FOUND, UNAVAILABLE

# Streams that follow logs of one pod ask together.
STATES_TTL_S = 0.5


class KubeletServer:
    """The `StreamHandler` of a node."""

    def __init__(
        self,
        store: RecordStore,
        runtime: ContainerRuntime,
        statuses: StatusView,
        documents: Documents,
        log_root: Path,
    ) -> None:
        self._store, self._runtime, self._statuses = store, runtime, statuses
        self._documents, self._log_root = documents, log_root
        self._states: tuple[float, str, list[SandboxState]] = (0.0, "", [])

    async def serve(self, target_text: str, accept: Accept) -> None:
        """Serve one stream to its end. Raises: StreamRefusedError before `accept()`; others break the stream."""
        try:
            target = decode_target(target_text)
        except TargetError as exc:
            raise StreamRefusedError(BAD_REQUEST, f"target: {exc}") from exc
        try:
            match target:
                case Document():
                    content = await self._documents.make(target.name)
                    await accept().write(content)
                case Logs():
                    await self._serve_logs(target, accept)
                case PortForward():
                    await self._forward(target, accept)
                case Exec() | Attach():
                    await self._run(target, accept)
        except RuntimeUnavailableError as exc:
            raise StreamRefusedError(UNAVAILABLE, str(exc)) from exc
        except StreamingRefusedError as exc:
            raise StreamRefusedError(BAD_REQUEST, str(exc)) from exc

    async def _serve_logs(self, target: Logs, accept: Accept) -> None:
        pod, stored = await find_pod(self._store, target.namespace, target.pod, target.uid)
        status = self._statuses.status_of(stored.uid)
        await serve_logs(target, pod, status, self._log_root, self._sandboxes, accept)

    async def _sandboxes(self, uid: str) -> list[SandboxState]:
        at_s, known, states = self._states
        if known != uid or time.monotonic() - at_s > STATES_TTL_S:
            states = await self._runtime.sandbox(uid)
            self._states = (time.monotonic(), uid, states)
        return states

    async def _forward(self, target: PortForward, accept: Accept) -> None:
        _, stored = await find_pod(self._store, target.namespace, target.pod, target.uid)
        ready = [s for s in await self._runtime.sandbox(stored.uid) if s.ready]
        if not ready:
            problem = f'pod "{target.pod}" has no sandbox that is ready'
            raise StreamRefusedError(NOT_FOUND, problem)
        url = await self._runtime.port_forward_url(ready[0].id, target.ports)
        await pipe_to(url, target.upgrade, accept)

    async def _run(self, target: Exec | Attach, accept: Accept) -> None:
        pod, stored = await find_pod(self._store, target.namespace, target.pod, target.uid)
        container = running(await self._runtime.sandbox(stored.uid), pod, target.container)
        pipes = Pipes(target.stdin, target.stdout, target.stderr, target.tty)
        if isinstance(target, Exec):
            url = await self._runtime.exec_url(container.id, target.command, pipes)
        else:
            # Not the client's word: whether there is a terminal was settled when the container was made.
            tty = pod.container(target.container).tty
            pipes = replace(pipes, tty=tty, stderr=target.stderr and not tty)
            url = await self._runtime.attach_url(container.id, pipes)
        await pipe_to(url, target.upgrade, accept)
