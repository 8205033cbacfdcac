"""CriRuntime against a real containerd with runc and CNI."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import time
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from edgecore.edged.cri import CriRuntime
from edgecore.edged.runtime import (
    ContainerConfig,
    ContainerLimits,
    ContainerPhase,
    ContainerSecurity,
    ContainerStartError,
    Mount,
    PodIdentity,
    RuntimeUnavailableError,
    SandboxConfig,
)

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(60)]

_numbers = itertools.count(1)


class Pod:
    """One sandbox, with the few steps that every test takes."""

    def __init__(self, runtime, folder, **settings):
        number = next(_numbers)
        self.runtime = runtime
        self.identity = PodIdentity("default", f"pod-{number}", f"uid-{number}")
        self.config = SandboxConfig(
            self.identity,
            0,
            "my-host",
            str(folder / f"logs-{number}"),
            {"app": "web"},
            {},
            **settings,
        )
        self.id = ""

    async def create(self, *script, name="main", attempt=0, image="busybox", **settings):
        self.id = self.id or await self.runtime.run_sandbox(self.config)
        command = ("/bin/sh", "-c", *script)
        config = ContainerConfig(
            name, attempt, image, command, log_path=f"{name}/{attempt}.log", **settings
        )
        return await self.runtime.create_container(self.id, config, self.config)

    async def start(self, *script, **settings):
        container = await self.create(*script, **settings)
        await self.runtime.start_container(container)
        return container

    async def state(self, container):
        (sandbox,) = await self.runtime.sandbox(self.identity.uid)
        return next(c for c in sandbox.containers if c.id == container)

    async def exited(self, container):
        while (state := await self.state(container)).phase is not ContainerPhase.EXITED:
            await asyncio.sleep(0.02)
        return state

    def log(self, name="main"):
        return Path(self.config.log_dir, name, "0.log").read_text().splitlines()

    async def log_has(self, text):
        while not any(text in line for line in self.log()):
            await asyncio.sleep(0.02)

    async def said(self, container):
        """Wait for the end; return the lines of output without their prefixes."""
        await self.exited(container)
        return [line.split(" ", 3)[3] for line in self.log()]


@pytest.fixture
async def runtime(containerd):
    """A CriRuntime; what it made is removed after the test."""
    runtime = CriRuntime(str(containerd.socket), owner=f"node-{next(_numbers)}")
    yield runtime
    for sandbox in await runtime.list_sandboxes():
        await runtime.remove_sandbox(sandbox.id)
    await runtime.close()


@pytest.fixture
def pod(runtime, tmp_path):
    return Pod(runtime, tmp_path)


async def test_version_is_containerds_and_becomes_the_name(runtime):
    version = await runtime.version()
    assert version.name == "containerd"
    assert version.version.startswith(("1.", "2."))
    assert runtime.name == "containerd"


async def test_a_pod_has_an_address_a_hostname_a_resolver_and_its_labels(
    runtime, tmp_path, containerd
):
    pod = Pod(runtime, tmp_path, dns_servers=("10.9.8.7",), dns_searches=("here.local",))
    container = await pod.start("hostname; cat /etc/resolv.conf; ip -4 addr show eth0")
    said = await pod.said(container)
    (sandbox,) = await runtime.list_sandboxes()
    assert (sandbox.pod, sandbox.ready, sandbox.attempt) == (pod.identity, True, 0)
    (address,) = sandbox.ips
    assert address.rpartition(".")[0] == containerd.network.subnet.rpartition(".")[0]
    assert said[0] == "my-host"
    assert {"nameserver 10.9.8.7", "search here.local"} <= set(said)
    assert any(address in line for line in said)
    labels = containerd.ctr("containers", "info", container)
    for word in ("io.kubernetes.pod.uid", "io.kubernetes.container.name", "armadillo.dev/node"):
        assert word in labels


async def test_output_is_logged_in_cri_format_and_the_exit_code_is_kept(pod):
    container = await pod.start("echo out; echo err >&2; exit 3")
    state = await pod.exited(container)
    assert (state.exit_code, state.reason, state.name) == (3, "Error", "main")
    assert state.image == "docker.io/library/busybox:latest"
    assert 0 < state.created_s <= state.started_s <= state.finished_s <= time.time()
    assert sorted(line.split(" ", 1)[1] for line in pod.log()) == ["stderr F err", "stdout F out"]


async def test_environment_mounts_and_identity_reach_the_container(pod, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "key").write_text("value\n")
    container = await pod.start(
        "echo $COLOUR; pwd; id -u; id -g; id -G; cat /etc/config/key; echo x > /etc/config/key;"
        "touch /rootfs; grep NoNewPrivs /proc/self/status; grep CapEff /proc/self/status",
        env=[("COLOUR", "blue sky")],
        working_dir="/tmp",
        mounts=[Mount(str(tmp_path / "config"), "/etc/config", read_only=True)],
        limits=ContainerLimits(cpu_shares=100, cpu_quota=50_000, memory_bytes=64 << 20),
        security=ContainerSecurity(
            run_as_user=1234,
            run_as_group=2345,
            supplemental_groups=(3456,),
            read_only_rootfs=True,
            no_new_privileges=True,
            drop_capabilities=("ALL",),
        ),
    )
    said = await pod.said(container)
    assert [line for line in said if "nly" not in line and "denied" not in line] == [
        "blue sky",
        "/tmp",
        "1234",
        "2345",
        "2345 3456",
        "value",
        "NoNewPrivs:\t1",
        "CapEff:\t0000000000000000",
    ]
    assert len(said) == 10  # and two refusals to write


async def test_a_group_without_a_user_takes_the_images_user(pod):
    container = await pod.start("id -u; id -g", security=ContainerSecurity(run_as_group=77))
    assert await pod.said(container) == ["0", "77"]


async def test_a_privileged_container_gets_every_device(pod):
    container = await pod.start("ls /dev | wc -l", security=ContainerSecurity(privileged=True))
    (count,) = await pod.said(container)
    assert int(count) > 20


async def test_the_hosts_network_gives_no_pod_address(runtime, tmp_path):
    pod = Pod(runtime, tmp_path, host_network=True)
    container = await pod.start("ls /sys/class/net")
    assert "eth0" in await pod.said(container) or Path("/sys/class/net/eth0").exists() is False
    (sandbox,) = await runtime.list_sandboxes()
    assert sandbox.ready
    assert sandbox.ips == ()


async def test_stop_lets_a_process_end_by_itself(pod, runtime):
    container = await pod.start(
        "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"
    )
    await pod.log_has("up")
    await runtime.stop_container(container, 20)
    state = await pod.state(container)
    assert (state.phase, state.exit_code) == (ContainerPhase.EXITED, 7)
    assert pod.log()[-1].endswith("stdout F bye")


async def test_stop_kills_after_the_grace(pod, runtime):
    container = await pod.start("trap '' TERM; echo up; while :; do sleep 0.05; done")
    await pod.log_has("up")
    before = time.monotonic()
    await runtime.stop_container(container, 1)
    assert 0.9 <= time.monotonic() - before < 10
    assert (await pod.state(container)).exit_code == 137


async def test_a_command_that_is_not_there_is_a_run_container_error(pod, runtime):
    sandbox = await runtime.run_sandbox(pod.config)
    config = ContainerConfig("main", 0, "busybox", ["nosuch"])
    container = await runtime.create_container(sandbox, config, pod.config)
    with pytest.raises(ContainerStartError, match=r'exec: "nosuch": executable file') as caught:
        await runtime.start_container(container)
    assert caught.value.reason == "RunContainerError"
    state = await pod.state(container)
    assert (state.phase, state.exit_code, state.reason) == (
        ContainerPhase.EXITED,
        128,
        "StartError",
    )


async def test_a_missing_image_is_told_within_seconds(runtime):
    assert await runtime.image("127.0.0.1:1/nothing/here:1") is None
    async with asyncio.timeout(20):
        with pytest.raises(ContainerStartError) as caught:
            await runtime.pull("127.0.0.1:1/nothing/here:1")
    assert caught.value.reason == "ErrImagePull"
    assert "127.0.0.1:1/nothing/here:1" in caught.value.message
    assert "connection refused" in caught.value.message


async def test_a_container_of_a_missing_image_is_refused(pod):
    with pytest.raises(ContainerStartError, match="not found") as caught:
        await pod.create("true", image="127.0.0.1:1/nothing/here:1")
    assert caught.value.reason == "CreateContainerError"


async def test_the_image_is_present_under_its_short_name(runtime):
    image = await runtime.image("busybox")
    assert image is not None
    assert "docker.io/library/busybox:latest" in image.names
    assert image.size_bytes > 100_000
    assert image in await runtime.images()


@pytest.mark.parametrize(
    "reference", ["UPPER", "a b", "", "x" * 300, "nginx:", "http://x/y", "a@b"]
)
async def test_an_image_name_that_is_none_is_refused(runtime, reference):
    with pytest.raises(ContainerStartError, match="InvalidImageName"):
        await runtime.image(reference)


async def test_a_value_that_cri_cannot_carry_is_refused(runtime, tmp_path):
    pod = Pod(runtime, tmp_path, port_mappings=[("ICMP", 80, 80, "")])
    with pytest.raises(ContainerStartError, match="CreatePodSandboxError"):
        await runtime.run_sandbox(pod.config)


async def test_a_second_runtime_adopts_what_the_first_made(pod, runtime, containerd):
    running = await pod.start("sleep 300", name="one", attempt=2)
    ended = await pod.start("exit 4", name="two")
    await pod.exited(ended)
    await runtime.close()
    second = CriRuntime(str(containerd.socket), owner=runtime.owner)
    (sandbox,) = await second.list_sandboxes()
    assert (sandbox.id, sandbox.pod, sandbox.ready) == (pod.id, pod.identity, True)
    assert len(sandbox.ips) == 1
    assert [(c.id, c.name, c.attempt, c.phase, c.exit_code) for c in sandbox.containers] == [
        (running, "one", 2, ContainerPhase.RUNNING, 0),
        (ended, "two", 0, ContainerPhase.EXITED, 4),
    ]
    await second.close()


class Recorder:
    """A CRI endpoint that passes every call on to the real one and writes down its name."""

    def __init__(self, socket):
        self.socket, self.asked = socket, []

    @asynccontextmanager
    async def in_front_of(self, real):
        async with grpc.aio.insecure_channel(f"unix:{real}") as channel:
            server = grpc.aio.server()
            server.add_generic_rpc_handlers([_Forward(channel, self.asked)])
            server.add_insecure_port(f"unix:{self.socket}")
            await server.start()
            yield self
            await server.stop(None)


class _Forward(grpc.GenericRpcHandler):
    def __init__(self, channel, asked):
        self._channel, self._asked = channel, asked

    def service(self, call):
        async def forward(request, _context):
            self._asked.append(call.method.rpartition("/")[2])
            return await self._channel.unary_unary(call.method)(request)

        return grpc.unary_unary_rpc_method_handler(forward)


async def test_a_poll_of_what_does_not_change_is_two_calls(pod, runtime, containerd, tmp_path):
    await pod.exited(await pod.start("exit 0", name="ended"))
    await pod.start("sleep 300", name="running")
    async with Recorder(tmp_path / "cri.sock").in_front_of(containerd.socket) as recorder:
        second = CriRuntime(str(recorder.socket), owner=runtime.owner)
        first = await second.list_sandboxes()
        # All that is not in the lists, once: two containers and one address.
        assert sorted(recorder.asked[2:]) == ["ContainerStatus"] * 2 + ["PodSandboxStatus"]
        recorder.asked.clear()
        assert await second.list_sandboxes() == first
        assert recorder.asked == ["ListPodSandbox", "ListContainers"]
        await second.close()


async def test_two_owners_do_not_see_each_others_pods(runtime, containerd, tmp_path):
    other = CriRuntime(str(containerd.socket), owner=runtime.owner + "-other")
    mine, theirs = Pod(runtime, tmp_path), Pod(other, tmp_path)
    await mine.start("sleep 300")
    await theirs.start("sleep 300")
    assert [s.pod for s in await runtime.list_sandboxes()] == [mine.identity]
    assert [s.pod for s in await other.list_sandboxes()] == [theirs.identity]
    assert await other.sandbox(mine.identity.uid) == []
    await other.remove_sandbox(theirs.id)
    await other.close()


async def test_a_host_port_leads_into_the_pod(runtime, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pod = Pod(runtime, tmp_path, port_mappings=[("TCP", 8080, port, "127.0.0.1")])
    await pod.start("echo hello from the pod > /tmp/index.html; echo up; httpd -f -p 8080 -h /tmp")
    await pod.log_has("up")
    async with asyncio.timeout(10):
        while (answer := await get("127.0.0.1", port)) is None:
            await asyncio.sleep(0.05)
    assert b"hello from the pod" in answer


async def get(host, port):
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return None
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def test_stop_and_remove_of_what_is_gone_succeed(pod, runtime):
    container = await pod.start("sleep 300")
    await runtime.remove_sandbox(pod.id)
    assert await runtime.list_sandboxes() == []
    await runtime.stop_container(container, 1)
    await runtime.remove_container(container)
    await runtime.stop_sandbox(pod.id)
    await runtime.remove_sandbox(pod.id)


async def test_a_removed_pod_leaves_no_network_behind(pod, runtime, containerd):
    await pod.start("sleep 300")
    namespaces = containerd.folder / "state" / "io.containerd.grpc.v1.cri" / "netns"
    assert len(list(namespaces.iterdir())) == 1
    await runtime.stop_sandbox(pod.id)
    (sandbox,) = await runtime.list_sandboxes()
    assert not sandbox.ready
    await runtime.remove_sandbox(pod.id)
    assert list(namespaces.iterdir()) == []
    assert list((containerd.folder / "addresses" / containerd.network.bridge).glob("10.*")) == []


async def test_containers_survive_a_restart_of_containerd(pod, runtime, containerd):
    container = await pod.start("trap 'exit 6' TERM; echo up; while :; do sleep 0.05; done")
    await pod.log_has("up")
    before = await runtime.list_sandboxes()
    await asyncio.to_thread(containerd.stop)
    with pytest.raises(RuntimeUnavailableError, match=re.escape(str(containerd.socket))):
        await runtime.list_sandboxes()
    await asyncio.to_thread(containerd.start)
    async with asyncio.timeout(10):
        while (after := await listed(runtime)) is None:
            await asyncio.sleep(0.05)
    assert after == before
    await runtime.stop_container(container, 20)
    assert (await pod.state(container)).exit_code == 6


async def listed(runtime):
    try:
        return await runtime.list_sandboxes()
    except RuntimeUnavailableError:
        return None


async def test_a_socket_that_is_not_there_is_said_at_once(tmp_path):
    runtime = CriRuntime(str(tmp_path / "none.sock"), owner="x")
    async with asyncio.timeout(5):
        with pytest.raises(RuntimeUnavailableError, match=r"none\.sock"):
            await runtime.version()
    await runtime.close()


async def test_a_runtime_that_never_answers_is_given_up(tmp_path):
    path = str(tmp_path / "silent.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()  # the kernel takes the connection, and nobody speaks
        runtime = CriRuntime(path, owner="x", call_timeout_s=0.3)
        with pytest.raises(RuntimeUnavailableError, match=re.escape(path)):
            await runtime.list_sandboxes()
        await runtime.close()


async def test_a_sandbox_whose_making_is_cancelled_is_seen_through_and_can_be_removed(pod, runtime):
    making = asyncio.ensure_future(runtime.run_sandbox(pod.config))
    for _ in range(10):  # the call is under way
        await asyncio.sleep(0)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    (sandbox,) = await runtime.sandbox(pod.identity.uid)
    assert sandbox.ready
    await runtime.remove_sandbox(sandbox.id)
    assert not await runtime.sandbox(pod.identity.uid)
