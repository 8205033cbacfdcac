"""What starts when, what a new image starts again, and what is asked of a container that is being ended."""

from __future__ import annotations

import pytest

from armadillo.images import PAUSE_IMAGE
from tests.fakes.pods import pod_object
from tests.integration.edged.lab import FOREVER, deleted, shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(120)]
SHARED = [{"name": "shared", "emptyDir": {}}]
MOUNT = [{"name": "shared", "mountPath": "/shared"}]
LOCAL = "none.test/none:1"


def told(word):
    return f"echo {word} >> /shared/story"


def run(script):
    return {"exec": {"command": ["sh", "-c", script]}}


def story(lab, pod="web", uid="u-1"):
    path = lab.folder / f"pods/volumes/{uid}/volumes/kubernetes.io~empty-dir/shared/story"
    return path.read_text().split() if path.exists() else []


async def test_containers_start_one_after_the_other_each_behind_the_hook_of_the_one_before(lab):
    hook = {"postStart": run(f"{told('hook')}; sleep 1; {told('hooked')}")}
    init = shell(told("init"), "init", volumeMounts=MOUNT)
    first = shell(FOREVER, "first", volumeMounts=MOUNT, lifecycle=hook)
    second = shell(f"{told('second')}; {FOREVER}", "second", volumeMounts=MOUNT)
    async with lab.pod(first, second, initContainers=[init], volumes=SHARED):
        await lab.until(lambda: "second" in story(lab))
        assert story(lab) == ["init", "hook", "hooked", "second"]


async def test_an_init_container_that_fails_or_cannot_be_pulled_lets_nothing_start_behind_it(lab):
    app, never = shell("true"), {"restartPolicy": "Never"}
    bad = shell("exit 3", "init")
    missing = {**shell("true", "init"), "image": "127.0.0.1:1/none:1"}  # nobody listens there
    async with lab.running():
        await lab.put("Pod", pod_object("bad", "u-1", [app], initContainers=[bad], **never))
        await lab.put("Pod", pod_object("missing", "u-2", [app], initContainers=[missing], **never))
        await lab.until(lambda: lab.phase("bad") == "Failed")
        waiting = lambda: lab.of("init", "initContainerStatuses", "missing").get("state", {})  # noqa: E731
        await lab.until(lambda: waiting().get("waiting", {}).get("reason") == "ImagePullBackOff")
        init = lab.of("init", "initContainerStatuses", "bad")
        assert init["state"]["terminated"]["exitCode"] == 3
        assert lab.phase("missing") == "Pending"
        for name in ("bad", "missing"):
            assert lab.of("app", pod=name)["state"] == {"waiting": {"reason": "PodInitializing"}}
            assert lab.of("app", pod=name)["restartCount"] == 0
        started = [c.name for s in await lab.runtime.list_sandboxes() for c in s.containers]
        assert started == ["init"]
        for name, uid in (("bad", "u-1"), ("missing", "u-2")):
            await lab.gone(name, uid)


async def test_a_restarted_app_container_does_not_bring_its_init_containers_back(lab):
    inits = [shell(told(name), name, volumeMounts=MOUNT) for name in ("one", "two", "three")]
    app = shell(f"{told('app')}; exit 1", volumeMounts=MOUNT)
    async with lab.pod(app, initContainers=inits, volumes=SHARED):
        await lab.until(lambda: lab.of("app").get("restartCount") == 1)
        await lab.until(lambda: len(story(lab)) == 5)
        assert story(lab) == ["one", "two", "three", "app", "app"]
        assert [s["restartCount"] for s in lab.status()["initContainerStatuses"]] == [0, 0, 0]


async def test_a_new_image_restarts_what_runs_and_never_what_has_done_its_work(lab):
    """Four pods whose image changes at four moments; both images hold a shell."""
    hold = "until [ -e /shared/go ]; do sleep 0.1; done"
    app = shell(f"{told('app')}; {FOREVER}", volumeMounts=MOUNT)
    init = shell(f"{told('init')}; {hold}; {told('inited')}", "init", volumeMounts=MOUNT)
    slow = shell(
        f"trap '{told('ending')}; {hold}; exit 0' TERM; {told('app')}; while :; do sleep 0.1; done",
        volumeMounts=MOUNT,
    )
    pods = {
        "runs": pod_object("runs", "u-1", [app, shell(FOREVER, "other")], volumes=SHARED, restartPolicy="Never"),
        "inits": pod_object("inits", "u-2", [dict(app)], initContainers=[dict(init)], volumes=SHARED),
        "inited": pod_object("inited", "u-3", [dict(app)], initContainers=[shell("true", "init")], volumes=SHARED),
        "ends": pod_object("ends", "u-4", [slow], initContainers=[shell("true", "init")], volumes=SHARED),
    }  # fmt: skip
    uid = {name: made["metadata"]["uid"] for name, made in pods.items()}

    def go(name):
        story_file = lab.folder / f"pods/volumes/{uid[name]}/volumes/kubernetes.io~empty-dir/shared"
        (story_file / "go").touch()

    async def change(name, *, image=PAUSE_IMAGE, kinds=("containers", "initContainers")):
        for kind in kinds:
            for container in pods[name]["spec"].get(kind, ())[:1]:
                container["image"] = image
        await lab.put("Pod", pods[name])

    async with lab.running():
        for made in pods.values():
            await lab.put("Pod", made)
        await lab.until(lambda: all(story(lab, uid=u) for u in uid.values()))
        # One that runs is started again with it, though the pod never restarts; the one beside it runs on.
        await change("runs")
        await lab.until(lambda: lab.of("app", pod="runs").get("restartCount") == 1)
        await lab.until(lambda: story(lab, uid="u-1") == ["app", "app"])
        assert lab.of("other", pod="runs")["restartCount"] == 0
        assert lab.of("app", pod="runs")["image"] == PAUSE_IMAGE
        # While an init container runs, nothing is started early, and it is not run again.
        await change("inits")
        await lab.quiet(lambda: story(lab, uid="u-2"), 1.5)
        assert story(lab, uid="u-2") == ["init"]
        go("inits")
        await lab.until(lambda: "app" in story(lab, uid="u-2"))
        await lab.until(lambda: lab.phase("inits") == "Running")
        assert story(lab, uid="u-2") == ["init", "inited", "app"]
        of_inits = lab.of("app", pod="inits"), lab.of("init", "initContainerStatuses", "inits")
        assert [s["restartCount"] for s in of_inits] == [0, 0]
        assert of_inits[0]["image"] == PAUSE_IMAGE
        assert of_inits[1]["image"] != PAUSE_IMAGE
        # An init container that has done its work is left alone, even for an image that is nowhere.
        await change("inited", image=LOCAL, kinds=("initContainers",))
        await lab.quiet(lambda: lab.status("inited"), 1.5)
        assert lab.of("init", "initContainerStatuses", "inited")["restartCount"] == 0
        assert lab.phase("inited") == "Running"
        # And what is being ended is ended.
        pods["ends"]["metadata"] |= deleted(60)
        await lab.put("Pod", pods["ends"])
        await lab.until(lambda: "ending" in story(lab, uid="u-4"))
        await change("ends")
        await lab.quiet(lambda: story(lab, uid="u-4"), 1.5)
        go("ends")
        await lab.until(lambda: lab.ended("ends"))
        assert lab.of("app", pod="ends")["restartCount"] == 0
        assert lab.of("app", pod="ends")["state"]["terminated"]["exitCode"] == 0
        for name in ("runs", "inits", "inited", "ends"):
            await lab.gone(name, uid[name])


async def test_a_pre_stop_hook_runs_when_a_probe_ends_the_container_and_only_readiness_is_asked_meanwhile(
    lab,
):
    hook = {"preStop": run(f"{told('hook')}; sleep 3; {told('hooked')}")}
    fails = {**run(f"{told('probe')}; exit 1"), "failureThreshold": 1, "periodSeconds": 1}
    ready = {**run(told("ready")), "periodSeconds": 1}
    end = f"trap '{told('ended')}; exit 0' TERM; while :; do sleep 0.1; done"
    asked = {
        "liveness": {"livenessProbe": fails, "readinessProbe": ready},
        "startup": {"startupProbe": fails},
    }
    async with lab.running():
        for name, probes in asked.items():
            app = shell(end, volumeMounts=MOUNT, lifecycle=hook, **probes)
            spec = {"volumes": SHARED, "restartPolicy": "Never"}
            await lab.put("Pod", pod_object(name, f"u-{name}", [app], **spec))
        stories = {}

        def read():  # the volume goes with the end of the pod
            for name in asked:
                stories[name] = story(lab, uid=f"u-{name}") or stories.get(name, [])
            return all("ended" in found for found in stories.values())

        await lab.until(read)
        await lab.until(lambda: all(lab.phase(name) in ("Succeeded", "Failed") for name in asked))
        for name, found in stories.items():
            within = found[found.index("hook") : found.index("hooked")]
            assert "probe" not in within, found
            assert ("ready" in within) == (name == "liveness"), found
            assert found.index("hooked") < found.index("ended")
            await lab.gone(name, f"u-{name}")


async def test_an_init_container_that_takes_too_much_memory_says_so(lab):
    eats = "x=a; while :; do x=$x$x; done"
    init = shell(eats, "init", resources={"limits": {"memory": "20Mi"}})
    async with lab.pod(shell("true"), initContainers=[init], restartPolicy="Never"):
        await lab.until(lambda: lab.phase() == "Failed")
        ended = lab.state("init", "initContainerStatuses")["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
