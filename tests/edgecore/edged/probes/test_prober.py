"""The schedule of a node's probes, with real sockets: none holds back another."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import grpc
import pytest

from edgecore.edged.machine.probing import Answer, ContainerProbe, ProbeKind
from edgecore.edged.probes.checks import Unanswerable, check, http_url
from edgecore.edged.probes.pb import health_pb2, health_pb2_grpc
from edgecore.edged.probes.prober import Prober
from edgecore.edged.runtime import ExecResult
from edgecore.edged.spec.podspec import Container
from tests.fakes.pods import container, make_pod


def probed(**probe):
    return make_pod(
        containers=[container(readinessProbe={"periodSeconds": 1, **probe})]
    ).spec.containers[0]


def ask(spec: Container, number=0, due_s=0.0):
    probe = spec.readiness_probe
    return ContainerProbe(ProbeKind.READINESS, probe, spec, f"c-{number}", due_s, Answer.FAILURE)


class Listener:
    probe_address = "127.0.0.1"

    def __init__(self):
        self.heard = []

    def may_be_asked(self, probe):
        return True

    def answered(self, probe, finding, asked_s):
        probe.take(finding.answer, asked_s)
        self.heard.append((probe.container_id, finding.answer))


@contextlib.contextmanager
def silent_server():
    """The kernel takes every connection, and nobody ever says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1000)
        yield listening.getsockname()[1]


@contextlib.asynccontextmanager
async def serving(prober):
    task = asyncio.create_task(prober.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


@pytest.mark.timeout(30)
async def test_two_hundred_probes_that_hang_hold_back_none_that_does_not():
    prober, stuck, well = Prober(None), Listener(), Listener()
    with silent_server() as port:
        async with serving(prober):
            hangs = probed(httpGet={"port": port}, timeoutSeconds=20)
            for number in range(200):
                prober.add(ask(hangs, number), stuck)
            prober.add(ask(probed(tcpSocket={"port": port})), well)
            await until(lambda: len(well.heard) >= 2)
    assert {answer for _, answer in well.heard} == {Answer.SUCCESS}
    assert stuck.heard == []


async def test_commands_that_hang_leave_questions_over_the_network_alone():
    class Runtime:
        open = 0

        async def exec_sync(self, container_id, command, timeout_s):
            self.open += 1
            await asyncio.sleep(60)
            return ExecResult(0, b"")

    runtime, well = Runtime(), Listener()
    prober = Prober(runtime)
    with silent_server() as port:
        async with serving(prober):
            for number in range(100):
                prober.add(ask(probed(exec={"command": ["x"]}), number), Listener())
            prober.add(ask(probed(tcpSocket={"port": port})), well)
            await until(lambda: well.heard)
    assert runtime.open == 16


async def test_a_probe_is_asked_again_after_its_period_and_never_once_it_is_over():
    prober, listener = Prober(None), Listener()
    with silent_server() as port:
        async with serving(prober):
            probe = ask(probed(tcpSocket={"port": port}))
            prober.add(probe, listener)
            await until(lambda: len(listener.heard) == 2)
            probe.over = True
            await asyncio.sleep(1.2)
    assert len(listener.heard) == 2


class Health(health_pb2_grpc.HealthServicer):
    async def Check(self, request, context):  # noqa: N802
        if request.service == "unknown":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        word = {"": "SERVING", "down": "NOT_SERVING"}[request.service]
        return health_pb2.HealthCheckResponse(status=word)


@pytest.mark.parametrize(
    ("service", "answer", "text"),
    [
        ("", Answer.SUCCESS, ""),
        ("down", Answer.FAILURE, 'service unhealthy (responded with "NOT_SERVING")'),
        (
            "unknown",
            Answer.FAILURE,
            "error: health rpc probe failed: rpc error: code = NotFound desc = no such service",
        ),
    ],
)
async def test_grpc_asks_the_health_service(service, answer, text):
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(Health(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        spec = probed(grpc={"port": port, "service": service}, timeoutSeconds=3)
        found = await check(None, spec.readiness_probe, spec, "c", "127.0.0.1")
    finally:
        await server.stop(None)
    assert (found.answer, found.text) == (answer, text)


async def test_grpc_says_that_nobody_answers_and_that_nobody_serves_health():
    spec = probed(grpc={"port": 1})
    found = await check(None, spec.readiness_probe, spec, "c", "127.0.0.1")
    assert found.answer is Answer.FAILURE
    assert found.text.startswith('timeout: failed to connect service "127.0.0.1:1" within 1s')
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        spec = probed(grpc={"port": port}, timeoutSeconds=3)
        found = await check(None, spec.readiness_probe, spec, "c", "127.0.0.1")
    finally:
        await server.stop(None)
    assert "does not implement the grpc health protocol" in found.text


def test_a_port_that_is_not_there_is_no_answer():
    spec = probed(httpGet={"port": "web"})
    with pytest.raises(Unanswerable, match="couldn't find port: web"):
        http_url(spec.readiness_probe.http_get, spec, "10.0.0.1")


def test_an_address_of_version_six_stands_in_brackets():
    spec = probed(httpGet={"port": 80, "path": "x", "scheme": "HTTPS"})
    assert http_url(spec.readiness_probe.http_get, spec, "fd00::1") == "https://[fd00::1]:80/x"
