"""The life of a pod against real containerd: order, hooks, graces, deadlines and changes in place."""

from __future__ import annotations

import time

import pytest

from tests.integration.edged.lab import FOREVER, IMAGE, STUBBORN, shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(120)]

MOUNT = [{"name": "shared", "mountPath": "/shared"}]
SHARED = [{"name": "shared", "emptyDir": {}}]
NOTE = "echo {} >> /shared/order"


def noting(name, script="", **fields):
    """A container that notes its name in a shared file when it starts."""
    return shell(f"{NOTE.format(name)}; {script or FOREVER}", name, volumeMounts=MOUNT, **fields)


def order(lab):
    path = lab.folder / "pods/volumes/u-1/volumes/kubernetes.io~empty-dir/shared/order"
    return path.read_text().split() if path.exists() else []


async def test_init_containers_and_sidecars_start_in_order_each_when_the_one_before_is_done(lab):
    gate = {"exec": {"command": ["test", "-e", "/shared/open"]}, "periodSeconds": 1}
    side = noting("side", restartPolicy="Always", startupProbe={**gate, "failureThreshold": 100})
    inits = [noting("one", "exit 0"), side, noting("two", "exit 0")]
    async with lab.pod(noting("app"), initContainers=inits, volumes=SHARED):
        await lab.until(lambda: "running" in lab.state("side", "initContainerStatuses"))
        await lab.until(lambda: order(lab) == ["one", "side"])
        await lab.quiet(lambda: order(lab), 1.5)
        assert lab.phase() == "Pending"
        assert lab.condition("Initialized")["message"] == (
            "containers with incomplete status: [side two]"
        )
        assert lab.of("side", "initContainerStatuses")["started"] is False
        folder = lab.folder / "pods/volumes/u-1/volumes/kubernetes.io~empty-dir/shared"
        (folder / "open").touch()
        await lab.until(lab.ready)
        assert order(lab) == ["one", "side", "two", "app"]
        assert lab.of("side", "initContainerStatuses")["started"] is True


async def test_sidecars_stop_after_the_app_in_reverse_order(lab):
    def ending(name, **fields):
        trap = f"trap 'sleep 0.3; {NOTE.format('-' + name)}; exit 0' TERM"
        script = f"{trap}; {NOTE.format(name)}; while :; do sleep 0.1; done"
        return shell(script, name, volumeMounts=MOUNT, **fields)

    sides = [ending(name, restartPolicy="Always") for name in ("first", "second")]
    volumes = [{"name": "shared", "hostPath": {"path": str(lab.folder)}}]
    async with lab.pod(ending("app"), initContainers=sides, volumes=volumes) as pod:
        await lab.until(lab.ready)
        await lab.delete(pod, 30)
        said = (lab.folder / "order").read_text().split()
        assert said == ["first", "second", "app", "-app", "-second", "-first"]


async def test_a_sidecar_does_not_keep_a_job_from_completing(lab):
    side = shell(FOREVER, "side", restartPolicy="Always")
    async with lab.pod(shell("sleep 1"), initContainers=[side], restartPolicy="Never"):
        await lab.until(lambda: lab.phase() == "Succeeded")
        assert "terminated" in lab.state("side", "initContainerStatuses")
        assert lab.condition("Ready")["reason"] == "PodCompleted"


async def test_a_sidecar_that_dies_is_restarted_even_if_the_pod_never_restarts(lab):
    side = shell("sleep 1; exit 3", "side", restartPolicy="Always")
    async with lab.pod(shell(), initContainers=[side], restartPolicy="Never"):
        await lab.until(lambda: lab.of("side", "initContainerStatuses").get("restartCount") == 1)
        assert lab.phase() == "Running"


async def test_an_ephemeral_container_joins_a_running_pod_sees_its_target_and_is_never_restarted(
    lab,
):
    async with lab.pod(shell(f"echo up; {FOREVER}")) as pod:
        await lab.until(lab.ready)
        before = lab.of("app")
        debug = shell("ps; exit 4", "debug", targetContainerName="app")
        await lab.change(pod, ephemeralContainers=[debug])
        kind = "ephemeralContainerStatuses"
        ended = await lab.until(lambda: lab.state("debug", kind).get("terminated"))
        assert ended["exitCode"] == 4
        await lab.until(lambda: any("sleep 0.1" in line for line in lab.log("debug")))
        await lab.quiet(lambda: lab.of("debug", kind)["restartCount"], 1.5)
        assert lab.of("app") == before
        assert lab.ready()


async def test_a_container_is_not_running_before_its_post_start_hook_has_ended(lab):
    hook = {"exec": {"command": ["sh", "-c", "while [ ! -e /shared/go ]; do sleep 0.1; done"]}}
    app = shell(volumeMounts=MOUNT, lifecycle={"postStart": hook})
    async with lab.pod(app, shell("exit 0", "next"), volumes=SHARED):
        await lab.until(lambda: "Started" in lab.reasons())
        await lab.quiet(lambda: (lab.phase(), lab.reasons().count("Started")), 1.5)
        assert lab.waiting() == {"reason": "ContainerCreating"}
        folder = lab.folder / "pods/volumes/u-1/volumes/kubernetes.io~empty-dir/shared"
        (folder / "go").touch()
        await lab.until(lambda: "running" in lab.state())
        await lab.until(lambda: lab.state("next"))


async def test_a_failed_post_start_hook_ends_the_container_and_tells_no_secret(lab):
    hook = {"exec": {"command": ["sh", "-c", "echo secret; exit 7"]}}
    async with lab.pod(shell(lifecycle={"postStart": hook})):
        await lab.until(lambda: lab.waiting().get("reason") == "PostStartHookError")
        assert "exited with 7" in lab.waiting()["message"]
        await lab.until(lambda: lab.of("app").get("restartCount", 0) >= 1)
    assert ("Warning", "FailedPostStartHook", "PostStartHook failed") in lab.events()
    assert ("Normal", "Killing", "FailedPostStartHook") in lab.events()
    assert not any("secret" in message for _, _, message in lab.events())


async def test_a_pre_stop_hook_runs_before_sigterm_and_within_the_grace(lab):
    script = f"trap 'echo term; exit 0' TERM; {FOREVER.partition('; ')[2]}"
    hook = {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1; sleep 1"]}}
    async with lab.pod(shell(script, lifecycle={"preStop": hook}), restartPolicy="Never") as pod:
        await lab.until(lab.ready)
        lines = []
        async with watching(lab, lines):
            await lab.delete(pod, 30)
    assert lines == ["hook", "term"]


async def test_a_pre_stop_hook_over_http_reaches_the_pod_itself(lab):
    serve = "mkdir -p /w; echo ok > /w/bye; httpd -f -v -p 8080 -h /w & wait"
    hook = {"httpGet": {"port": "web", "path": "/bye"}}
    app = shell(serve, ports=[{"name": "web", "containerPort": 8080}], lifecycle={"preStop": hook})
    async with lab.pod(app) as pod:
        await lab.until(lab.ready)
        lines = []
        async with watching(lab, lines):
            await lab.delete(pod, 2)
    assert any("response:200" in line for line in lines)
    assert "FailedPreStopHook" not in lab.reasons()


async def test_a_pre_stop_hook_that_fails_or_takes_too_long_does_not_hold_the_stop(lab):
    fails = {"preStop": {"exec": {"command": ["false"]}}}
    sleeps = {"preStop": {"sleep": {"seconds": 600}}}
    odd = {"preStop": {"tcpSocket": {"port": 1}}}
    apps = [
        shell(name="fails", lifecycle=fails),
        shell(name="sleeps", lifecycle=sleeps),
        shell(name="odd", lifecycle=odd),
    ]
    async with lab.pod(*apps) as pod:
        await lab.until(lab.ready)
        await lab.delete(pod, 2)
    failed = ("Warning", "FailedPreStopHook", "PreStopHook failed")
    assert lab.events().count(failed) >= 1
    assert lab.ended() == ["u-1"]


async def test_a_container_that_ignores_sigterm_is_killed_after_its_grace(lab):
    async with lab.pod(shell(STUBBORN)) as pod:
        await lab.until(lab.ready)
        await lab.delete(pod, 2)
    assert lab.state()["terminated"]["exitCode"] == 137


async def test_a_delete_with_less_grace_overtakes_one_with_more(lab):
    async with lab.pod(shell(STUBBORN)) as pod:
        await lab.until(lab.ready)
        begun_s = time.monotonic()
        pod["metadata"] |= {
            "deletionTimestamp": "2026-11-23T08:00:00Z",
            "deletionGracePeriodSeconds": 600,
        }
        await lab.put("Pod", pod)
        await lab.until(lambda: "Killing" in lab.reasons())
        await lab.delete(pod, 1)
        assert time.monotonic() - begun_s < 300


async def test_a_pod_past_its_deadline_fails_and_its_containers_end(lab):
    async with lab.pod(shell()) as pod:
        await lab.until(lab.ready)
        await lab.change(pod, activeDeadlineSeconds=1)
        await lab.until(lambda: lab.phase() == "Failed")
        status = lab.status()
        assert status["reason"] == "DeadlineExceeded"
        assert status["message"] == "Pod was active on the node longer than the specified deadline"
        assert "terminated" in lab.state()


async def test_labels_and_annotations_change_nothing_that_runs(lab):
    async with lab.pod(shell()) as pod:
        await lab.until(lab.ready)
        before = lab.of("app")
        pod["metadata"] |= {"labels": {"a": "b"}, "annotations": {"c": "d"}}
        await lab.put("Pod", pod)
        await lab.quiet(lambda: lab.of("app"))
        assert lab.of("app") == before


async def test_a_changed_image_restarts_only_that_container(lab):
    async with lab.pod(shell(), shell(name="other")) as pod:
        await lab.until(lab.ready)
        other = lab.of("other")
        pod["spec"]["containers"][0]["image"] = IMAGE.partition("/")[2].partition("/")[2]
        await lab.put("Pod", pod)
        await lab.until(lambda: lab.of("app")["restartCount"] == 1 and lab.ready())
        assert lab.of("other") == other
    message = "Container app definition changed, will be restarted"
    assert ("Normal", "Killing", message) in lab.events()


async def test_termination_messages_come_from_the_file_or_the_log_and_share_twelve_kilobytes(lab):
    big = "head -c 9000 /dev/zero | tr '\\0' x > /dev/termination-log; exit 1"
    log = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; exit 1"
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    own = {"terminationMessagePath": "/tmp/why"}
    apps = [
        shell(big, "big"),
        shell(log, "log", **fallback),
        shell("echo because > /tmp/why", "own", **own),
        shell("echo unsaid", "quiet", **fallback),
    ]
    async with lab.pod(*apps, restartPolicy="Never"):
        await lab.until(lambda: lab.phase() == "Failed")
        said = {
            n: lab.state(n)["terminated"].get("message", "") for n in ("big", "log", "own", "quiet")
        }
    assert said["big"] == "x" * 3072
    assert said["log"].splitlines()[-1] == "line 99"
    assert len(said["log"].splitlines()) == 80
    assert (said["own"], said["quiet"]) == ("because\n", "")


async def test_an_out_of_memory_kill_says_so(lab):
    eats = "x=a; while :; do x=$x$x; done"
    limits = {"limits": {"memory": "20Mi"}}
    async with lab.pod(shell(eats, resources=limits), restartPolicy="Never"):
        await lab.until(lambda: lab.phase() == "Failed")
        ended = lab.state()["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


class watching:  # noqa: N801 - reads as a word
    """Collects the app's log lines, which are removed with the pod."""

    def __init__(self, lab, lines):
        self.lab, self.lines = lab, lines

    async def __aenter__(self):
        import asyncio

        async def follow():
            while True:
                if found := self.lab.log():
                    self.lines[:] = found
                await asyncio.sleep(0.02)

        self.task = asyncio.create_task(follow())

    async def __aexit__(self, *exc_info):
        self.task.cancel()
