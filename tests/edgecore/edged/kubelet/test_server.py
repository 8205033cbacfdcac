"""What a stream leads to, over a store, log files and a runtime in memory: choices and refusals in kubelet's words."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from corekit.bytestream import ByteStream
from edgecore.edged.kubelet.documents import Documents
from edgecore.edged.kubelet.server import KubeletServer
from edgecore.edged.runtime import Pipes, StreamingRefusedError
from edgecore.settings import EdgeSettings
from edgecore.streams import StreamRefusedError
from synccore.targets import Attach, Document, Exec, Logs, PortForward, Upgrade, encode_target
from tests.fakes.pods import container, pod_object, put
from tests.fakes.runtime import FakeRuntime
from tests.fakes.store import MemoryStore

UPGRADE = Upgrade(method="POST", headers=(("connection", "Upgrade"), ("upgrade", "SPDY/3.1")))
WEB = {"namespace": "default", "pod": "web"}


class Sunk:
    """A stream's port that takes everything."""

    def __init__(self):
        self.out, self.ended, self.error = bytearray(), False, None

    def room(self):
        return 1 << 20

    def send(self, content, *, end=False):
        self.out += content
        self.ended = self.ended or end

    def consumed(self, size_bytes):
        pass

    def close(self, error):
        self.error = error


class Kubelet:
    """A server, with what a test tells it of the pod."""

    def __init__(self, folder):
        self.folder, self.store = folder, MemoryStore()
        self.runtime = FakeRuntime(lambda: 0.0, "busybox:1")
        self.status = None
        documents = Documents(
            EdgeSettings(), self.store, self.runtime, self, None, lambda: "up 1\n"
        )
        self.server = KubeletServer(self.store, self.runtime, self, documents, folder)

    def status_of(self, uid):
        return self.status

    def reported(self, state=None, last=None, restarts=0, container_id="containerd://gone"):
        one = {"name": "app", "restartCount": restarts, "containerID": container_id}
        one["state"] = state or {}
        one["lastState"] = {"terminated": last} if last else {}
        self.status = {"containerStatuses": [one]}

    def log(self, text, attempt=0):
        path = self.folder / "default_web_u-1" / "app" / f"{attempt}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as out:
            for line in text.splitlines():
                out.write(f"2026-11-26T10:00:00Z stdout F {line}\n")

    async def ask(self, target):
        """Return what came out of the stream."""
        port = Sunk()
        text = target if isinstance(target, str) else encode_target(target)
        await self.server.serve(text, lambda: ByteStream(port))
        return bytes(port.out).decode()

    async def refusal(self, target):
        with pytest.raises(StreamRefusedError) as caught:
            await self.ask(target)
        return caught.value.code, str(caught.value)


@pytest.fixture
async def kubelet(tmp_path):
    kubelet = Kubelet(tmp_path)
    await put(kubelet.store, "Pod", pod_object(containers=[container(tty=True)]))
    return kubelet


def logs(**options):
    return Logs(**WEB, container="app", **options)


async def test_the_log_that_is_meant_follows_from_the_status(kubelet):
    for attempt in range(3):
        kubelet.log(f"attempt {attempt}", attempt)
    kubelet.reported({"running": {}}, {"containerID": "x"}, restarts=2)
    assert await kubelet.ask(logs()) == "attempt 2\n"
    assert await kubelet.ask(logs(previous=True)) == "attempt 1\n"
    kubelet.reported({"waiting": {"reason": "CrashLoopBackOff"}}, {"containerID": "x"}, restarts=2)
    assert await kubelet.ask(logs()) == "attempt 2\n"
    assert await kubelet.ask(logs(previous=True)) == "attempt 2\n"


@pytest.mark.parametrize(
    ("state", "options", "problem"),
    [
        (
            {"running": {}},
            {"previous": True},
            'previous terminated container "app" in pod "web" not found',
        ),
        (
            {"waiting": {"reason": "PodInitializing"}},
            {},
            'container "app" in pod "web" is waiting to start: PodInitializing',
        ),
        (
            {"waiting": {"reason": "ErrImagePull"}},
            {},
            'container "app" in pod "web" is waiting to start: image can\'t be pulled',
        ),
        (
            {"running": {}},
            {"since_time": "yesterday"},
            "sinceTime: 'yesterday' is not a time of RFC 3339",
        ),
        (
            {"running": {}},
            {"since_time": "2026-11-26T10:00:00Z", "since_seconds": 1},
            "only one of sinceSeconds and sinceTime may be given",
        ),
    ],
)
async def test_a_log_that_cannot_be_given_is_refused_in_kubelet_s_words(
    kubelet, state, options, problem
):
    kubelet.log("x")
    kubelet.reported(state)
    assert await kubelet.refusal(logs(**options)) == ("BadRequest", problem)


async def test_a_log_file_that_is_not_there_is_said_and_its_path_is_not(kubelet):
    kubelet.reported({"running": {}})
    code, problem = await kubelet.refusal(logs())
    assert code == "BadRequest"
    assert problem == 'failed to open log file of container "app": No such file or directory'


async def test_following_ends_with_the_container_and_its_last_words(kubelet):
    await with_container(kubelet)
    kubelet.log("first")
    kubelet.reported({"running": {}})
    port, began = Sunk(), asyncio.Event()

    def accept():
        began.set()
        return ByteStream(port)

    task = asyncio.create_task(kubelet.server.serve(encode_target(logs(follow=True)), accept))
    await began.wait()
    kubelet.log("second")
    while b"second" not in port.out:
        await asyncio.sleep(0.01)
    assert not task.done()
    kubelet.log("last words")
    kubelet.runtime.exit("app")
    await asyncio.wait_for(task, 4)
    assert port.out == b"first\nsecond\nlast words\n"


async def test_following_goes_on_in_the_next_file_after_a_rotation(kubelet):
    await with_container(kubelet)
    kubelet.log("first")
    kubelet.reported({"running": {}})
    port = Sunk()
    task = asyncio.create_task(
        kubelet.server.serve(encode_target(logs(follow=True)), lambda: ByteStream(port))
    )
    while b"first" not in port.out:
        await asyncio.sleep(0.01)
    path = kubelet.folder / "default_web_u-1/app/0.log"
    path.rename(path.with_name("0.log.20261126-100000"))
    kubelet.log("second")
    while b"second" not in port.out:
        await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert port.out == b"first\nsecond\n"


async def with_container(kubelet):
    """The pod's container runs; return its id."""
    from edgecore.edged.runtime import ContainerConfig, PodIdentity, SandboxConfig

    runtime = kubelet.runtime
    config = SandboxConfig(PodIdentity("default", "web", "u-1"), 0, "web", "/x", {}, {})
    sandbox = await runtime.run_sandbox(config)
    made = await runtime.create_container(sandbox, ContainerConfig("app", 0, "busybox:1"), config)
    await runtime.start_container(made)
    return made


@pytest.mark.parametrize(
    ("target", "code", "problem"),
    [
        (Logs(namespace="default", pod="no", container="app"), "NotFound", 'pod "no" not found'),
        (Logs(**WEB, container="app", uid="old"), "NotFound", 'pod "web" not found'),
        (Logs(**WEB, container="no"), "NotFound", 'container "no" not found in pod "web"'),
        (
            Exec(**WEB, container="app", upgrade=UPGRADE, command=("ls",), stdout=True),
            "BadRequest",
            'container "app" in pod "web" is not running',
        ),
        (PortForward(**WEB, upgrade=UPGRADE), "NotFound", 'pod "web" has no sandbox that is ready'),
        (Document(name="stats/summary"), "Unavailable", "this agent keeps no statistics"),
    ],
)
async def test_what_is_not_there_is_refused(kubelet, target, code, problem):
    assert await kubelet.refusal(target) == (code, problem)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '{"kind":"logs"}',
        '{"kind":"shell","command":"id"}',
        '{"kind":"logs","namespace":"..","pod":"web","container":"app"}',
        '{"kind":"logs","namespace":"default","pod":"web","container":"../../x"}',
        '{"kind":"logs","namespace":"default","pod":"web","container":"app\\n"}',
        '{"kind":"logs","namespace":"default","pod":"web","container":"app","tailLines":-1}',
        "[" * 10_000,
    ],
)
async def test_a_target_that_is_none_is_refused_with_one_line(kubelet, text):
    code, problem = await kubelet.refusal(text)
    assert code == "BadRequest"
    assert problem.startswith("target: ")
    assert "\n" not in problem


@pytest.mark.parametrize(
    "header",
    [
        ("authorization", "Bearer x"),
        ("upgrade", "SPDY/3.1\r\nX-Evil: 1"),
        ("host", "169.254.169.254"),
    ],
)
async def test_only_headers_of_an_upgrade_reach_the_runtime(kubelet, header):
    target = {
        **WEB,
        "kind": "exec",
        "container": "app",
        "command": ["ls"],
        "upgrade": {"method": "POST", "headers": [header]},
    }
    code, _ = await kubelet.refusal(json.dumps(target))
    assert code == "BadRequest"


async def test_a_url_of_another_machine_is_not_dialled(kubelet):
    await with_container(kubelet)
    for url in (
        "http://169.254.169.254/latest",
        "https://127.0.0.1/x",
        "file:///etc/passwd",
        "http://[::",
    ):
        kubelet.runtime.streaming_url = url
        target = Exec(**WEB, container="app", upgrade=UPGRADE, command=("ls",), stdout=True)
        code, problem = await kubelet.refusal(target)
        assert code == "Failed"
        assert problem == "the runtime's streaming server is not on loopback"


async def test_a_command_is_piped_to_the_runtime_s_server_both_ways(kubelet):
    made = await with_container(kubelet)
    heard = bytearray()

    async def streaming_server(reader, writer):
        heard.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        heard.extend(await reader.read())  # to the end of stdin
        writer.write(b"bye")
        writer.close()

    server = await asyncio.start_server(streaming_server, "127.0.0.1", 0)
    port_number = server.sockets[0].getsockname()[1]
    kubelet.runtime.streaming_url = f"http://127.0.0.1:{port_number}/exec/token?x=1"
    port = Sunk()
    stream = ByteStream(port)
    stream.feed(b"stdin", end=True)
    pipes = {"stdin": True, "stdout": True}
    target = Exec(**WEB, container="app", upgrade=UPGRADE, command=("cat",), **pipes)
    await kubelet.server.serve(encode_target(target), lambda: stream)
    server.close()
    assert port.out == b"HTTP/1.1 101 Switching Protocols\r\n\r\nbye"
    head, _, rest = bytes(heard).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /exec/token?x=1 HTTP/1.1"
    assert {b"upgrade: SPDY/3.1", b"Content-Length: 0"} <= set(head.split(b"\r\n"))
    assert rest == b"stdin"
    assert kubelet.runtime.calls[-1] == ("exec", made, ("cat",), Pipes(stdin=True, stdout=True))


async def test_attach_takes_the_terminal_of_the_spec_and_not_of_the_client(kubelet):
    await with_container(kubelet)
    kubelet.runtime.streaming_url = "http://nowhere.example/"
    target = Attach(**WEB, container="app", upgrade=UPGRADE, stdout=True, stderr=True)
    await kubelet.refusal(target)
    assert kubelet.runtime.calls[-1][2] == Pipes(stdout=True, tty=True)


async def test_a_runtime_without_streams_says_so(kubelet):
    await with_container(kubelet)

    async def refuse(*_):
        raise StreamingRefusedError("exec needs a container runtime")

    kubelet.runtime.exec_url = refuse
    target = Exec(**WEB, container="app", upgrade=UPGRADE, command=("ls",), stdout=True)
    assert await kubelet.refusal(target) == ("BadRequest", "exec needs a container runtime")


async def test_pods_are_listed_with_their_statuses_and_running_ones_as_the_runtime_has_them(
    kubelet,
):
    kubelet.status = {"phase": "Running"}
    (pod,) = json.loads(await kubelet.ask(Document(name="pods")))["items"]
    assert (pod["metadata"]["name"], pod["status"]) == ("web", {"phase": "Running"})
    assert json.loads(await kubelet.ask(Document(name="runningpods")))["items"] == []
    await with_container(kubelet)
    (running,) = json.loads(await kubelet.ask(Document(name="runningpods")))["items"]
    assert running["metadata"]["uid"] == "u-1"
    assert await kubelet.ask(Document(name="healthz")) == "ok"
    assert (
        json.loads(await kubelet.ask(Document(name="configz")))["kubeletconfig"]["maxPods"] == 110
    )
