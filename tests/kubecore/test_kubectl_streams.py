"""logs, exec, attach, cp and port-forward with the real kubectl, several versions of it, and the official client."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.fakes.kubelet import METRICS, FakeKubelet
from tests.kubecore.samples import make_pod
from tests.kubecore.test_kubectl import VERSIONS, Kubectl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]
CAPACITY = (
    '{"status":{"capacity":{"cpu":"2","memory":"1Gi"},"allocatable":{"cpu":"2","memory":"1Gi"}}}'
)
POD = "/api/v1/namespaces/default/pods/web"


@pytest.fixture
async def kubelet(certificates):
    async with FakeKubelet(certificates.server, certificates.authority.pair.cert_file) as fake:
        yield fake


@pytest.fixture
async def pod(admin, kubelet):
    """A running pod on the fake kubelet's node."""
    await admin.post("/api/v1/nodes", kubelet.node())
    body = make_pod(containers=[{"name": "c", "image": "busybox", "stdin": True}])
    status, _ = await admin.post("/api/v1/namespaces/default/pods", body)
    assert status == 201
    await admin.post(f"{POD}/binding", {"target": {"name": "n1"}})
    status, _ = await admin.merge(f"{POD}/status", {"status": {"phase": "Running"}})
    assert status == 200


@pytest.fixture(params=VERSIONS, ids=[str(v)[-4:] for v in VERSIONS])
async def kubectl(request, server, tmp_path, pod):
    if request.param is None:
        pytest.skip("no kubectl on this machine")
    return Kubectl(request.param, server.kubeconfig(tmp_path / "kubeconfig"), tmp_path)


async def test_logs_are_read_and_followed(kubectl, kubelet):
    assert await kubectl("logs", "web", "--tail=5", "--timestamps") == "one\ntwo\n"
    assert kubelet.asked[-1] == "/containerLogs/default/web/c?timestamps=true&tailLines=5"
    follow = asyncio.create_task(kubectl("logs", "-f", "web"))
    while not kubelet.followers:
        await asyncio.sleep(0.05)
    kubelet.follow.set()
    assert await follow == "one\ntwo\nthree\n"


async def test_a_command_runs_with_its_input_output_and_exit_code(kubectl):
    assert await kubectl("exec", "web", "--", "echo", "hello world") == "hello world\n"
    assert await kubectl("exec", "-i", "web", "--", "cat", stdin="to and fro") == "to and fro"
    status, output = await kubectl.run("exec", "web", "--", "sh", "-c", "echo bad >&2; exit 7")
    assert (status, "bad" in output) == (7, True)
    _, output = await kubectl.run("exec", "web", "--", "refuse-me")
    assert "container not found" in output


async def test_much_goes_through_both_ways(kubectl):
    much = "0123456789abcdef" * 65536
    assert await kubectl("exec", "-i", "web", "--", "cat", stdin=much) == much


async def test_attach_reads_and_writes_the_running_container(kubectl):
    status, output = await kubectl.run("attach", "-i", "web", stdin="ping\n")
    assert (status, "ping\n" in output) == (0, True)


async def test_files_are_copied_both_ways(kubectl, tmp_path):
    source, there, back = tmp_path / "a.txt", tmp_path / "there", tmp_path / "back.txt"
    source.write_text("cargo" * 1000)
    await kubectl("cp", str(source), f"web:{there}")
    assert there.read_text() == source.read_text()
    await kubectl("cp", f"web:{there}", str(back))
    assert back.read_text() == source.read_text()


async def test_a_port_is_forwarded(kubectl):
    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data.upper())
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as target:
        port = target.sockets[0].getsockname()[1]
        forward = await asyncio.create_subprocess_exec(
            kubectl.binary,
            "port-forward",
            "web",
            f":{port}",
            env=kubectl.env,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            line = (await forward.stdout.readline()).decode()
            local = line.split("127.0.0.1:")[1].split()[0]
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(local))
                writer.write(b"a" * 300_000)
                assert await reader.readexactly(300_000) == b"A" * 300_000
                writer.close()
        finally:
            forward.kill()
            await forward.wait()


async def test_the_official_client_runs_a_command(server, pod, tmp_path):
    from kubernetes import client, config
    from kubernetes.stream import stream

    def run():
        api = config.new_client_from_config(str(server.kubeconfig(tmp_path / "kubeconfig")))
        with contextlib.closing(api):
            core = client.CoreV1Api(api)
            answer = stream(
                core.connect_get_namespaced_pod_exec,
                "web",
                "default",
                command=["sh", "-c", "read x; echo got $x; exit 3"],
                stdin=True,
                stdout=True,
                stderr=True,
                tty=False,
                _preload_content=False,
            )
            answer.write_stdin("it\n")
            answer.run_forever(timeout=30)
            try:
                return answer.read_stdout(), answer.returncode
            finally:
                answer.sock.shutdown()  # `close` leaves the socket once the server said goodbye

    assert await asyncio.to_thread(run) == ("got it\n", 3)


@pytest.fixture
async def busy(kubelet):
    """Let the kubelet count half a core for its node and a tenth for the pod."""
    import time

    start_s = time.time()

    def metrics():
        now_s = time.time()
        used_s = now_s - start_s
        return METRICS.format(
            node_cpu=10 + used_s / 2, pod_cpu=1 + used_s / 10, stamp=int(now_s * 1000)
        )

    kubelet.metrics = metrics


async def test_use_is_shown_by_node_and_pod(kubectl, kubelet, busy):
    assert "metrics" not in "".join(kubelet.asked)  # not before somebody asks
    shown = await kubectl("top", "pod", "--containers", "--no-headers")
    pod, container, cpu, memory = shown.split()
    assert (pod, container, memory) == ("web", "c", "20Mi")
    assert 90 <= int(cpu.removesuffix("m")) <= 110
    await kubectl("patch", "node", "n1", "--subresource=status", "-p", CAPACITY)
    node, cpu, share, memory, _ = (await kubectl("top", "node", "--no-headers")).split()
    assert (node, share, memory) == ("n1", "25%", "143Mi")
    assert 490 <= int(cpu.removesuffix("m")) <= 510
