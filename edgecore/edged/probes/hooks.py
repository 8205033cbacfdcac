"""One run of a lifecycle hook, with kubelet's words for what went wrong."""

from __future__ import annotations

import asyncio

from corekit.errors import EdgeError
from edgecore.edged.probes.checks import Unanswerable, expanded_command, http_url
from edgecore.edged.probes.httpget import HttpGetError, http_get
from edgecore.edged.runtime import ContainerRuntime
from edgecore.edged.spec.lifecycle import LifecycleHandler
from edgecore.edged.spec.podspec import Container, Pod

# kubelet sets no limit to a postStart hook. A wait without an end holds the pod's other containers for ever.
MAX_HOOK_S = 3600.0


class HookError(EdgeError):
    """A hook failed; the message is kubelet's, for the container's status and never for an Event."""


async def run_hook(
    runtime: ContainerRuntime,
    handler: LifecycleHandler,
    pod: Pod,
    container: Container,
    container_id: str,
    pod_ip: str,
    *,
    limit_s: float = MAX_HOOK_S,
) -> None:
    """Run `handler` to its end. Raises: HookError, RuntimeUnavailableError."""
    where = f'for Container "{container.name}" in Pod "{pod.full_name}" failed'
    if handler.exec is not None:
        shown = " ".join(handler.exec.command)
        command = expanded_command(handler.exec, container)
        result = None
        try:
            result = await runtime.exec_sync(container_id, command, limit_s)
            problem = f"command '{shown}' exited with {result.exit_code}"
            if not result.exit_code:
                return
        except EdgeError as exc:
            if exc.retryable:
                raise
            problem = str(exc)
        text = result.output.decode(errors="replace") if result else ""
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        raise HookError(
            f'Exec lifecycle hook ([{shown}]) {where} - error: {problem}: {text}, message: "{quoted}"'
        )
    if handler.http_get is not None:
        headers = [(h.name, h.value) for h in handler.http_get.http_headers]
        try:
            # Whatever is answered is fine, as kubelet has it.
            await http_get(http_url(handler.http_get, container, pod_ip), headers, limit_s)
        except (HttpGetError, Unanswerable, ValueError) as exc:
            path = handler.http_get.path
            raise HookError(f"HTTP lifecycle hook ({path}) {where} - error: {exc}") from exc
    elif handler.sleep is not None:
        await asyncio.sleep(min(handler.sleep.seconds, limit_s))
    else:
        raise HookError(f"Cannot run handler: invalid handler {where}")
