"""One run of one probe, by its type, with kubelet's words for what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from edgecore.edged.containers.environment import expand
from edgecore.edged.machine.probing import Answer
from edgecore.edged.probes.httpget import (
    HttpGetError,
    dial_problem,
    http_get,
    join_address,
)
from edgecore.edged.runtime import ContainerRuntime, ExecTimeoutError
from edgecore.edged.spec.lifecycle import (
    ExecAction,
    GrpcAction,
    HttpGetAction,
    PortRef,
    Probe,
    TcpSocketAction,
)
from edgecore.edged.spec.podspec import Container

MAX_OUTPUT_CHARS = 1024  # of a command, in an Event; the API takes no more


@dataclass(frozen=True)
class Finding:
    """What a probe found; `warning` is a success with something to say."""

    answer: Answer
    text: str = ""
    warning: bool = False


class Unanswerable(Exception):  # noqa: N818 - not an error of ours: the probe could not be run
    """The probe could not be run; nothing is known."""


async def check(
    runtime: ContainerRuntime, probe: Probe, container: Container, container_id: str, pod_ip: str
) -> Finding:
    """Run `probe` once. Raises: Unanswerable, EdgeError."""
    if probe.exec is not None:
        return await _exec(runtime, probe.exec, container, container_id, probe.timeout_s)
    if probe.http_get is not None:
        return await _http(probe.http_get, container, pod_ip, probe.timeout_s)
    if probe.tcp_socket is not None:
        return await _tcp(probe.tcp_socket, container, pod_ip, probe.timeout_s)
    if probe.grpc is not None:
        return await _grpc(probe.grpc, pod_ip, probe.timeout_s)
    raise Unanswerable(f"missing probe handler for container {container.name}")


def expanded_command(action: ExecAction, container: Container) -> Sequence[str]:
    """Return the command with the container's literal variables put in, as kubelet does it here."""
    env = {e.name: e.value for e in container.env if e.value_from is None}
    return [expand(part, env) for part in action.command]


def port_number(port: PortRef, container: Container) -> int:
    """Return the number of a port given by number or name. Raises: Unanswerable."""
    if isinstance(port, str) and not port.isdigit():
        for candidate in container.ports:
            if candidate.name == port:
                return candidate.container_port
        raise Unanswerable(f"couldn't find port: {port}")
    if not 0 < int(port) < 65536:
        raise Unanswerable(f"invalid port number: {port}")
    return int(port)


def http_url(action: HttpGetAction, container: Container, pod_ip: str) -> str:
    """Return the URL that `action` asks for. Raises: Unanswerable: no such port."""
    address = join_address(action.host or pod_ip, port_number(action.port, container))
    path = action.path if action.path.startswith("/") else f"/{action.path}"
    return f"{(action.scheme or 'HTTP').lower()}://{address}{path}"


async def _exec(
    runtime: ContainerRuntime,
    action: ExecAction,
    container: Container,
    container_id: str,
    timeout_s: float,
) -> Finding:
    command = expanded_command(action, container)
    try:
        result = await runtime.exec_sync(container_id, command, timeout_s)
    except ExecTimeoutError as exc:
        return Finding(Answer.FAILURE, str(exc))
    text = result.output.decode(errors="replace")[:MAX_OUTPUT_CHARS]
    return Finding(Answer.FAILURE if result.exit_code else Answer.SUCCESS, text)


async def _http(
    action: HttpGetAction, container: Container, pod_ip: str, timeout_s: float
) -> Finding:
    url = http_url(action, container, pod_ip)
    headers = [(h.name, h.value) for h in action.http_headers]
    try:
        answer = await http_get(url, headers, timeout_s)
    except HttpGetError as exc:
        return Finding(Answer.FAILURE, str(exc))
    if not 200 <= answer.status < 400:
        return Finding(Answer.FAILURE, f"HTTP probe failed with statuscode: {answer.status}")
    if answer.status < 300:
        return Finding(Answer.SUCCESS)
    body = answer.body.decode(errors="replace")
    text = f"Probe terminated redirects, Response body: {body}"
    return Finding(Answer.SUCCESS, text, warning=True)


async def _tcp(
    action: TcpSocketAction, container: Container, pod_ip: str, timeout_s: float
) -> Finding:
    host, port = action.host or pod_ip, port_number(action.port, container)
    address = join_address(host, port)
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Finding(Answer.FAILURE, f"dial tcp {address}: i/o timeout")
    except OSError as exc:
        return Finding(Answer.FAILURE, dial_problem(exc, address))
    writer.close()
    return Finding(Answer.SUCCESS)


async def _grpc(action: GrpcAction, pod_ip: str, timeout_s: float) -> Finding:
    import grpc  # the process runtime does without, if nobody asks

    from edgecore.edged.probes.pb import health_pb2
    from edgecore.edged.probes.pb.health_pb2_grpc import HealthStub

    address = join_address(pod_ip, action.port)
    options = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
    request = health_pb2.HealthCheckRequest(service=action.service)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        try:
            async with asyncio.timeout(timeout_s):
                await channel.channel_ready()
                answer = await HealthStub(channel).Check(request, timeout=timeout_s)  # type: ignore[no-untyped-call]
        except TimeoutError:
            return Finding(
                Answer.FAILURE,
                f'timeout: failed to connect service "{address}" within {timeout_s:.0f}s: '
                "context deadline exceeded",
            )
        except grpc.aio.AioRpcError as exc:
            return Finding(Answer.FAILURE, _grpc_problem(exc, timeout_s))
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return Finding(Answer.SUCCESS)
    word = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return Finding(Answer.FAILURE, f'service unhealthy (responded with "{word}")')


def _grpc_problem(exc: object, timeout_s: float) -> str:
    import grpc

    assert isinstance(exc, grpc.aio.AioRpcError)
    if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
        words = "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        return f"error: {words}: {exc.details()}"
    if exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"timeout: health rpc did not complete within {timeout_s:.0f}s"
    code = exc.code().name.title().replace("_", "")
    return f"error: health rpc probe failed: rpc error: code = {code} desc = {exc.details()}"
