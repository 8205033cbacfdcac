"""What [NodeConformance] demands of a pod's life: restarts, init containers, hooks, back-offs, early deletes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from datetime import datetime

import pytest

from corekit.pki import Authority, KeyPair
from synccore.messages import Op
from tests.fakes.pods import pod_object
from tests.integration.edged.lab import FOREVER, IMAGE, LONG_S, shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(180)]

PATIENCE_S = 2 * LONG_S
MOUNT = [{"name": "shared", "mountPath": "/shared"}]
SHARED = [{"name": "shared", "emptyDir": {"medium": "Memory"}}]
INITIALIZING = {"waiting": {"reason": "PodInitializing"}}


async def put(lab, name, *containers, **spec):
    made = pod_object(name, f"u-{name}", list(containers), **spec)
    await lab.put("Pod", made)
    return made


async def gone(lab, *names):
    for name in names:
        await lab.gone(name, f"u-{name}")


async def test_a_restart_policy_decides_what_becomes_of_a_container_that_ends(lab):
    # Fails the first time, ends well the second, and then runs for ever.
    script = (
        "echo run >> /shared/runs; n=$(wc -l < /shared/runs); [ $n = 1 ] && exit 1; [ $n = 2 ] && exit 0; "
        + FOREVER
    )
    app = shell(script, volumeMounts=MOUNT)
    policies = {"always": "Always", "onfailure": "OnFailure", "never": "Never"}
    async with lab.running():
        for name, policy in policies.items():
            made = await put(lab, name, app, volumes=SHARED, restartPolicy=policy)
            if policy == "Always":
                always = made
        await lab.until(lambda: lab.waiting("always").get("reason") == "CrashLoopBackOff")
        await lab.skip(always, 60)
        await lab.until(lambda: lab.ready("always"), PATIENCE_S)
        await lab.until(lambda: lab.phase("onfailure") == "Succeeded", PATIENCE_S)
        await lab.until(lambda: lab.phase("never") == "Failed", PATIENCE_S)
        assert outcome(lab, "always") == ("Running", "running", 2, True)
        assert outcome(lab, "onfailure") == ("Succeeded", "terminated", 1, False)
        assert outcome(lab, "never") == ("Failed", "terminated", 0, False)
        assert lab.of("app", pod="never")["state"]["terminated"]["reason"] == "Error"
        await gone(lab, *policies)
        assert await lab.runtime.list_sandboxes() == []


def outcome(lab, pod):
    status = lab.of("app", pod=pod)
    (state,) = status["state"]
    return lab.phase(pod), state, status["restartCount"], lab.ready(pod)


async def test_init_containers_that_end_well_let_the_app_run_and_those_that_fail_do_not(lab):
    good, bad, app = shell("true", "one"), shell("exit 1", "one"), shell()
    two = shell("true", "two")
    async with lab.running():
        await put(lab, "ends", shell("true"), initContainers=[good, two], restartPolicy="Never")
        await put(lab, "stays", app, initContainers=[good, two])
        again = await put(lab, "again", app, initContainers=[bad, two])
        failing = [shell("true", "one"), shell("exit 1", "two")]
        await put(lab, "fails", app, initContainers=failing, restartPolicy="Never")
        await lab.until(lambda: lab.phase("ends") == "Succeeded", PATIENCE_S)
        await lab.until(lambda: lab.ready("stays"), PATIENCE_S)
        await lab.until(lambda: lab.phase("fails") == "Failed", PATIENCE_S)
        await lab.until(lambda: back_off(lab, "again"), PATIENCE_S)
        await lab.skip(again, 60)
        await lab.until(lambda: inits(lab, "again")[0]["restartCount"] >= 2, PATIENCE_S)
        for pod in ("ends", "stays"):
            assert lab.condition("Initialized", pod)["status"] == "True"
            assert [s["ready"] for s in inits(lab, pod)] == [True, True]
            assert [s["state"]["terminated"]["exitCode"] for s in inits(lab, pod)] == [0, 0]
        await gone(lab, "ends", "stays", "again", "fails")
    for pod, waits_for in (("again", "[one two]"), ("fails", "[two]")):
        assert_never_initialized(lab, pod)
        condition = lab.condition("Initialized", pod)
        assert (condition["status"], condition["reason"]) == ("False", "ContainersNotInitialized")
        assert condition["message"] == f"containers with incomplete status: {waits_for}"
    assert lab.phase("again") == "Pending"
    assert inits(lab, "again")[0]["lastState"]["terminated"]["exitCode"] == 1
    assert inits(lab, "again")[1]["state"] == INITIALIZING
    assert inits(lab, "fails")[1]["state"]["terminated"]["exitCode"] == 1


def inits(lab, pod):
    return lab.status(pod)["initContainerStatuses"]


def back_off(lab, pod):
    waiting = lab.of("one", "initContainerStatuses", pod).get("state", {}).get("waiting", {})
    return waiting.get("reason") == "CrashLoopBackOff"


def assert_never_initialized(lab, pod):
    """In every status that was reported the app waits for its init containers, and was never started."""
    seen = [s for status in reported(lab, pod) for s in status.get("containerStatuses", ())]
    assert seen
    for status in seen:
        assert status["state"] == INITIALIZING, status
        assert status["restartCount"] == 0
        assert status.get("started") in (None, False)


def reported(lab, pod):
    """Every status reported of `pod`, oldest first."""
    key = ("Pod", "default", pod)
    return [
        json.loads(r.body)["status"]
        for r in lab.store.reports
        if r.key == key and r.op is Op.UPSERT
    ]


@contextlib.asynccontextmanager
async def web_server(requests, tls=None):
    """A server on the node that notes what it is asked for; yields its port."""

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            requests.append(head.split()[1])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]


def secure(folder):
    pair = KeyPair(folder / "hook.crt", folder / "hook.key")
    Authority(folder, "nobody").issue(pair, "somebody", hosts=("example.com",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    return context


def asks(name, scheme, port):
    def hook(word):
        action = {"host": "127.0.0.1", "port": port, "scheme": scheme, "path": f"/{word}?of={name}"}
        return {"httpGet": action}

    return {"postStart": hook("begin"), "preStop": hook("end")}


def writes(name):
    def hook(word):
        return {"exec": {"command": ["sh", "-c", f"echo {word} {name} >> /shared/hooks"]}}

    return {"postStart": hook("begin"), "preStop": hook("end")}


async def test_hooks_of_app_containers_and_sidecars_run_after_the_start_and_before_the_stop(lab):
    requests = []
    shared = [{"name": "shared", "hostPath": {"path": str(lab.folder)}}]
    async with (
        web_server(requests) as port,
        web_server(requests, secure(lab.folder)) as tls_port,
    ):

        def three(prefix, **fields):
            hooks = [
                asks(f"{prefix}-http", "HTTP", port),
                asks(f"{prefix}-https", "HTTPS", tls_port),
                writes(f"{prefix}-exec"),
            ]
            return [
                shell(name=f"{prefix}-{n}", lifecycle=h, volumeMounts=MOUNT, **fields)
                for n, h in enumerate(hooks)
            ]

        sides = three("side", restartPolicy="Always")
        async with lab.pod(*three("app"), initContainers=sides, volumes=shared) as pod:
            await lab.until(lab.ready, PATIENCE_S)
            kinds = [f"{p}-{s}" for p in ("app", "side") for s in ("http", "https")]
            assert sorted(requests) == sorted(f"/begin?of={kind}" for kind in kinds)
            assert lines(lab.folder / "hooks") == ["begin side-exec", "begin app-exec"]
            requests.clear()
            await lab.delete(pod, 15)
            assert sorted(requests) == sorted(f"/end?of={kind}" for kind in kinds)
            assert sorted(lines(lab.folder / "hooks")[2:]) == ["end app-exec", "end side-exec"]
    assert not {"FailedPostStartHook", "FailedPreStopHook"} & set(lab.reasons())


def lines(path):
    return path.read_text().splitlines()


async def test_a_sleep_before_the_stop_lasts_as_long_as_it_says_unless_its_container_has_ended(lab):
    def sleeps(name, seconds, script=FOREVER):
        return shell(script, name, lifecycle={"preStop": {"sleep": {"seconds": seconds}}})

    apps = [sleeps("long", 3), sleeps("none", 0), sleeps("ended", 600, "exit 0")]
    async with lab.pod(*apps, restartPolicy="Never") as pod:
        await lab.until(lambda: "running" in lab.state("long") and "running" in lab.state("none"))
        await lab.until(lambda: "terminated" in lab.state("ended"))
        begun_s = time.time()
        await lab.delete(pod, 600)
        took_s = {n: ended_s(lab, n) - int(begun_s) for n in ("long", "none", "ended")}
        assert took_s["long"] >= 3
        assert took_s["none"] < took_s["long"]
        assert took_s["ended"] <= 0
        assert {lab.state(n)["terminated"]["exitCode"] for n in took_s} == {0}


def ended_s(lab, name):
    return datetime.fromisoformat(lab.state(name)["terminated"]["finishedAt"]).timestamp()


async def test_the_back_off_doubles_to_five_minutes_and_a_new_image_starts_it_again(lab):
    app = shell(
        "trap 'exit 0' TERM; until rm /shared/crash 2> /dev/null; do sleep 0.05; done; exit 1",
        volumeMounts=MOUNT,
    )
    async with lab.pod(app, volumes=SHARED) as pod:
        crash = lab.folder / "pods/volumes/u-1/volumes/kubernetes.io~empty-dir/shared/crash"

        async def crashed(expected):
            """Let it crash once more, and start again after the wait that its status tells."""
            await lab.until(lambda: "running" in lab.state(), PATIENCE_S)
            lab.ahead_s, count = 0.0, lab.of("app")["restartCount"]
            crash.touch()
            await lab.until(lambda: not crash.exists(), PATIENCE_S)
            if expected:
                words = f"back-off {expected} restarting failed container=app pod=web_default(u-1)"
                await lab.until(lambda: lab.waiting().get("message") == words, PATIENCE_S)
                await lab.skip(pod, 301)
            await lab.until(lambda: lab.of("app")["restartCount"] == count + 1, PATIENCE_S)

        for expected in ("", "10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"):
            await crashed(expected)
        pod["spec"]["containers"][0]["image"] = IMAGE.removeprefix("docker.io/library/")
        count = lab.of("app")["restartCount"]
        await lab.put("Pod", pod)
        await lab.until(lambda: lab.of("app")["restartCount"] == count + 1, PATIENCE_S)
        for expected in ("", "10s"):
            await crashed(expected)


async def test_a_pod_deleted_while_it_starts_never_looks_as_if_it_had_succeeded(lab):
    fails, blocked = shell("exit 1", "fail"), shell("exit 0", "blocked")
    async with lab.running():
        names = []
        for number in range(8):
            init = number % 2
            spec = {"initContainers": [fails]} if init else {}
            name = f"early-{number}"
            made = await put(
                lab,
                name,
                blocked if init else fails,
                restartPolicy="Never",
                terminationGracePeriodSeconds=1,
                **spec,
            )
            names.append(name)
            await asyncio.sleep(0.12 * number)  # each is met at another point of its start
            made["metadata"] |= {
                "deletionTimestamp": "2026-11-23T08:00:00Z",
                "deletionGracePeriodSeconds": 1,
            }
            await lab.put("Pod", made)
        for name in names:
            await lab.until(lambda n=name: f"u-{n}" in lab.ended(n), PATIENCE_S)
        await gone(lab, *names)
    for name in names:
        phases = [status["phase"] for status in reported(lab, name)]
        assert "Succeeded" not in phases
        assert phases == sorted(phases, key=["Pending", "Running", "Failed"].index)
        assert_ends_told_truly(lab, name)


def assert_ends_told_truly(lab, name):
    """A container that has ended stays so, with a reason for it; one that was held back never ran."""
    ended = False
    for status in reported(lab, name):
        for kind in ("containerStatuses", "initContainerStatuses"):
            for container in status.get(kind, ()):
                state = container["state"]
                if container["name"] == "blocked":
                    assert "running" not in state
                    assert container.get("started") in (None, False)
                elif "terminated" in state:
                    ended = True
                    why = state["terminated"]
                    known = (1, "Error"), (137, "ContainerStatusUnknown"), (137, "Error")
                    assert (why["exitCode"], why["reason"]) in known
                    # Both are null of one that was never made.
                    assert (why["startedAt"] or "") <= (why["finishedAt"] or "")
                else:
                    assert not ended
    last = reported(lab, name)[-1:]
    assert all("running" not in c["state"] for s in last for c in s.get("containerStatuses", ()))


async def test_a_termination_message_comes_from_the_path_that_was_asked_for_whoever_writes_it(lab):
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    custom = "/dev/termination-custom-log"
    apps = [
        shell("printf DONE > /dev/termination-log", "root", securityContext={"runAsUser": 0}),
        shell(
            f"printf DONE > {custom}",
            "user",
            terminationMessagePath=custom,
            securityContext={"runAsUser": 10000},
        ),
        shell("printf DONE; false", "log", **fallback),
        shell("printf DONE; true", "none", **fallback),
        shell("printf OK > /dev/termination-log; echo DONE; true", "file", **fallback),
    ]
    async with lab.pod(*apps, restartPolicy="Never"):
        await lab.until(lambda: lab.phase() == "Failed", PATIENCE_S)
        said = {a["name"]: lab.state(a["name"])["terminated"].get("message", "") for a in apps}
    assert said == {"root": "DONE", "user": "DONE", "log": "DONE", "none": "", "file": "OK"}
