"""Pod status in kubelet's words."""

from __future__ import annotations

import json

import pytest

from edgecore.edged.machine.memory import PodMemory, Waiting
from edgecore.edged.machine.probing import Health
from edgecore.edged.machine.status import Surroundings, pod_status
from edgecore.edged.machine.view import observe
from edgecore.edged.runtime import ContainerPhase, ContainerState, PodIdentity, SandboxState
from edgecore.edged.spec.podspec import decode_pod
from tests.fakes.pods import container, make_pod, pod_object

NOW = 1_790_000_000.0
RUNNING, EXITED = ContainerPhase.RUNNING, ContainerPhase.EXITED


def state(name="app", phase=RUNNING, attempt=0, **more):
    times = {"created_s": NOW - 60, "started_s": NOW - 60}
    times |= {"finished_s": NOW - 30} if phase is EXITED else {}
    return ContainerState(
        f"c{attempt}", name, attempt, phase, "busybox:1", "sha256:1", **times | more
    )


def boxed(*containers, ready=True):
    pod = PodIdentity("default", "web", "u-1")
    return [SandboxState("s", pod, 0, ready, NOW - 90, ("10.88.0.2",), containers)]


def status_of(pod, sandboxes=(), note=None, holds=None, now_s=NOW):
    note = note or PodMemory(namespace="default", name="web", start_s=NOW - 100)
    around = Surroundings(["192.0.2.7"], "containerd", holds or {})
    return pod_status(pod, observe(pod, sandboxes, note), note, around, now_s)


def condition(status, kind):
    return next(c for c in status["conditions"] if c["type"] == kind)


def test_a_pod_without_containers_yet_is_pending_and_creating():
    status = status_of(make_pod())
    assert status["phase"] == "Pending"
    assert status["containerStatuses"] == [
        {
            "name": "app",
            "state": {"waiting": {"reason": "ContainerCreating"}},
            "lastState": {},
            "ready": False,
            "restartCount": 0,
            "image": "busybox:1",
            "imageID": "",
            "started": False,
        }
    ]
    assert "podIP" not in status


def test_mounts_are_told_as_they_came_about():
    mounts = [
        {"name": "a", "mountPath": "/a"},
        {"name": "b", "mountPath": "/b", "readOnly": True, "recursiveReadOnly": "IfPossible"},
        {"name": "c", "mountPath": "/c", "readOnly": True},
    ]
    pod = make_pod(containers=[container(volumeMounts=mounts)])
    status = status_of(pod, boxed(state(recursive_read_only=frozenset({"/b"}))))
    assert status["containerStatuses"][0]["volumeMounts"] == [
        {"name": "a", "mountPath": "/a"},
        {"name": "b", "mountPath": "/b", "readOnly": True, "recursiveReadOnly": "Enabled"},
        {"name": "c", "mountPath": "/c", "readOnly": True, "recursiveReadOnly": "Disabled"},
    ]


def test_a_running_pod_has_every_field_that_kubelet_writes():
    status = status_of(make_pod(), boxed(state()))
    (app,) = status["containerStatuses"]
    assert app["state"] == {"running": {"startedAt": "2026-09-21T14:12:20Z"}}
    assert (app["ready"], app["started"], app["containerID"]) == (True, True, "containerd://c0")
    assert {c["type"]: c["status"] for c in status["conditions"]} == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"),
        "True",
    )
    assert (status["phase"], status["podIPs"]) == ("Running", [{"ip": "10.88.0.2"}])
    assert status["startTime"] == "2026-09-21T14:11:40Z"


def test_a_pod_on_the_host_network_has_the_hosts_address():
    assert status_of(make_pod(hostNetwork=True), boxed(state()))["podIP"] == "192.0.2.7"


def test_unready_containers_are_named():
    pod = make_pod(containers=[container("a"), container("b")])
    ready = condition(status_of(pod, boxed(state("a"))), "Ready")
    assert ready["message"] == "containers with unready status: [b]"
    assert ready["reason"] == "ContainersNotReady"


def test_init_containers_hold_the_pod_pending_and_are_named():
    pod = make_pod(initContainers=[container("one")])
    status = status_of(pod, boxed(state("one")))
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    initialized = condition(status, "Initialized")
    assert initialized["message"] == "containers with incomplete status: [one]"
    assert initialized["reason"] == "ContainersNotInitialized"


@pytest.mark.parametrize(
    ("code", "runtime_reason", "reason"),
    [(0, "", "Completed"), (1, "", "Error"), (137, "OOMKilled", "OOMKilled")],
)
def test_an_ended_container_says_why(code, runtime_reason, reason):
    ended = state(phase=EXITED, exit_code=code, reason=runtime_reason)
    status = status_of(make_pod(restartPolicy="Never"), boxed(ended))
    assert status["containerStatuses"][0]["state"]["terminated"] == {
        "exitCode": code,
        "reason": reason,
        "startedAt": "2026-09-21T14:12:20Z",
        "finishedAt": "2026-09-21T14:12:50Z",
        "containerID": "containerd://c0",
    }
    assert status["phase"] == ("Failed" if code else "Succeeded")


def test_a_crash_loop_waits_and_keeps_the_last_end():
    held = {"app": Waiting(reason="CrashLoopBackOff", message="back-off 10s")}
    status = status_of(make_pod(), boxed(state(phase=EXITED, exit_code=1)), holds=held)
    (app,) = status["containerStatuses"]
    assert app["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    assert app["lastState"]["terminated"]["exitCode"] == 1
    assert status["phase"] == "Running"


def test_a_restarted_container_remembers_the_end_before():
    both = boxed(state(phase=EXITED, exit_code=4), state(attempt=1))
    (app,) = status_of(make_pod(), both)["containerStatuses"]
    assert (app["restartCount"], app["lastState"]["terminated"]["exitCode"]) == (1, 4)


def test_restart_counts_survive_a_runtime_that_forgot():
    note = PodMemory(namespace="default", name="web", start_s=NOW)
    note.of("app").attempt = 6
    (app,) = status_of(make_pod(), note=note)["containerStatuses"]
    assert app["restartCount"] == 6
    assert app["lastState"] == {}


@pytest.mark.parametrize(
    ("outcome", "reason"), [("Succeeded", "PodCompleted"), ("Failed", "PodFailed")]
)
def test_an_ended_pod_is_not_ready_because_it_ended(outcome, reason):
    note = PodMemory(namespace="default", name="web", outcome=outcome)
    status = status_of(make_pod(restartPolicy="Never"), boxed(state(phase=EXITED)), note)
    assert status["phase"] == outcome
    assert condition(status, "Ready")["reason"] == reason


def test_an_ended_pod_keeps_its_address():
    note = PodMemory(namespace="default", name="web")
    pod = make_pod(restartPolicy="Never")
    note.status = status_of(pod, boxed(state()), note)
    assert status_of(pod, boxed(ready=False), note)["podIP"] == "10.88.0.2"


def test_a_pod_with_an_outcome_is_not_terminal_while_something_runs():
    note = PodMemory(namespace="default", name="web", outcome="Failed", reason="DeadlineExceeded")
    assert status_of(make_pod(), boxed(state()), note)["phase"] == "Running"


def test_transition_times_move_only_with_their_status():
    note = PodMemory(namespace="default", name="web", start_s=NOW)
    note.status = status_of(make_pod(), boxed(), note)
    later = status_of(make_pod(), boxed(state()), note, now_s=NOW + 60)
    before = condition(note.status, "PodScheduled")["lastTransitionTime"]
    assert condition(later, "PodScheduled")["lastTransitionTime"] == before
    assert condition(later, "Ready")["lastTransitionTime"] == "2026-09-21T14:14:20Z"


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "100m"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
        ({"limits": {"cpu": "1"}, "requests": {"cpu": "1000m"}}, "Burstable"),
    ],
)
def test_quality_of_service_follows_the_resources(resources, qos):
    assert status_of(make_pod(containers=[container(resources=resources)]))["qosClass"] == qos


def test_a_pod_that_ended_before_its_containers_were_made_says_so_of_each():
    note = PodMemory(namespace="default", name="web", outcome="Failed")
    (app,) = status_of(make_pod(), note=note)["containerStatuses"]
    ended = app["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "ContainerStatusUnknown")
    assert ended["message"] == "The container could not be located when the pod was terminated"


def test_of_a_pod_that_ended_while_it_was_initialized_the_rest_still_waits():
    pod = make_pod(initContainers=[container("one"), container("two")], restartPolicy="Never")
    note = PodMemory(namespace="default", name="web", outcome="Failed")
    status = status_of(pod, boxed(state("one", EXITED, exit_code=1)), note)
    one, two = status["initContainerStatuses"]
    assert one["state"]["terminated"]["exitCode"] == 1
    assert two["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert "waiting" in status["containerStatuses"][0]["state"]
    assert status["phase"] == "Failed"


def test_a_container_whose_start_has_not_ended_is_not_running_yet():
    note = PodMemory(namespace="default", name="web", start_s=NOW)
    view = observe(make_pod(), boxed(state()), note)
    around = Surroundings(["192.0.2.7"], "containerd", health=Health(starting=frozenset({"app"})))
    status = pod_status(make_pod(), view, note, around, NOW)
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert status["phase"] == "Pending"


def test_a_container_that_fails_its_probes_runs_and_is_neither_started_nor_ready():
    note = PodMemory(namespace="default", name="web", start_s=NOW)
    view = observe(make_pod(), boxed(state()), note)
    bad = Health(unstarted=frozenset({"c0"}), unready=frozenset({"c0"}))
    around = Surroundings(["192.0.2.7"], "containerd", health=bad)
    status = pod_status(make_pod(), view, note, around, NOW)
    (app,) = status["containerStatuses"]
    assert (app["started"], app["ready"], status["phase"]) == (False, False, "Running")


def test_a_running_sidecar_keeps_the_phase_of_a_pod_whose_app_has_ended():
    pod = make_pod(
        initContainers=[container("side", restartPolicy="Always")], restartPolicy="Never"
    )
    note = PodMemory(namespace="default", name="web", outcome="Succeeded")
    both = boxed(state("side"), state(phase=EXITED))
    assert status_of(pod, both, note)["phase"] == "Running"


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ([], 'corresponding condition of pod readiness gate "a" does not exist.'),
        (
            [{"type": "a", "status": "False"}],
            'the status of pod readiness gate "a" is not "True", but False',
        ),
        ([{"type": "a", "status": "True"}], None),
    ],
)
def test_readiness_gates_have_the_last_word_on_ready(conditions, message):
    made = pod_object(readinessGates=[{"conditionType": "a"}])
    made["status"] = {"conditions": conditions}
    pod, _ = decode_pod(json.dumps(made).encode())
    status = status_of(pod, boxed(state()))
    assert condition(status, "ContainersReady")["status"] == "True"
    assert condition(status, "Ready").get("message") == message
    assert condition(status, "Ready")["status"] == ("False" if message else "True")


def test_an_ephemeral_container_has_a_status_of_its_own_and_is_never_ready():
    pod = make_pod(ephemeralContainers=[container("debug")])
    status = status_of(pod, boxed(state(), state("debug")))
    (debug,) = status["ephemeralContainerStatuses"]
    assert "running" in debug["state"]
    assert debug["ready"] is False
    assert condition(status, "Ready")["status"] == "True"
