"""Edged as a whole, over a store and a runtime in memory."""

from __future__ import annotations

import asyncio
import json

import pytest

from corekit.errors import ConfigError
from edgecore.edged.pods import manager
from edgecore.edged.runtime import ImageState
from tests.fakes.edge import Edge
from tests.fakes.pods import config_map, container, pod_object, secret
from tests.fakes.uplink import FakeUplink

DELETED = {"deletionTimestamp": "2026-11-23T08:00:00Z", "deletionGracePeriodSeconds": 3}


async def test_a_pod_runs_and_its_status_says_so(edge):
    async with edge.running():
        await edge.put("Pod", pod_object())
        await edge.until(lambda: edge.phase() == "Running")
    status = edge.status()
    assert (status["podIP"], status["hostIP"]) == ("10.88.0.2", "192.0.2.7")
    assert edge.container()["containerID"].startswith("containerd://id-")
    assert [e[1:] for e in edge.events()] == [
        ("Pulled", 'Container image "busybox:1" already present on machine'),
        ("Created", "Created container: app"),
        ("Started", "Started container app"),
    ]


async def test_a_pod_that_ends_is_succeeded_and_its_sandbox_is_stopped(edge):
    async with edge.running():
        await edge.put("Pod", pod_object(restartPolicy="Never"))
        await edge.until(lambda: edge.phase() == "Running")
        edge.runtime.exit("app", 0)
        await edge.until(lambda: edge.phase() == "Succeeded")
        await edge.until(lambda: not any(s.ready for s in edge.runtime.sandboxes.values()))
    assert edge.container()["state"]["terminated"]["reason"] == "Completed"
    assert edge.status()["podIP"] == "10.88.0.2"


async def test_a_crashing_container_backs_off_as_kubelet_says(edge):
    async with edge.running():
        await edge.put("Pod", pod_object())
        await edge.until(lambda: edge.phase() == "Running")
        edge.runtime.exit("app", 1)
        await edge.until(lambda: edge.container()["restartCount"] == 1)
        edge.runtime.exit("app", 1)
        await edge.until(lambda: edge.waiting().get("reason") == "CrashLoopBackOff")
        assert edge.container()["lastState"]["terminated"]["exitCode"] == 1
        assert edge.phase() == "Running"
    message = "Back-off restarting failed container app in pod web_default(u-1)"
    assert edge.events().count(("Warning", "BackOff", message)) == 1


async def test_a_deleted_pod_is_stopped_cleaned_up_and_reported_gone(edge):
    async with edge.running():
        await edge.put("Pod", pod_object(volumes=[{"name": "tmp", "emptyDir": {}}]))
        await edge.until(lambda: edge.phase() == "Running")
        assert (edge.folder / "pods/volumes/u-1").is_dir()
        await edge.put("Pod", pod_object(metadata=DELETED))
        await edge.until(lambda: edge.ended())
        assert edge.ended() == ["u-1"]
        assert edge.phase() == "Failed"  # it ended by signal
        assert edge.runtime.sandboxes == {}
        assert not (edge.folder / "pods/volumes/u-1").exists()
        stops = [c for c in edge.runtime.calls if c[0] == "stop_container"]
        assert stops[0][2] == 3
        await edge.drop("Pod", "web", "u-1")
        await edge.until(lambda: edge.store.notes == {})
    assert ("Normal", "Killing", "Stopping container app") in edge.events()


async def test_a_pod_whose_record_vanishes_is_stopped_without_a_word_to_the_cloud(edge):
    async with edge.running():
        await edge.put("Pod", pod_object(terminationGracePeriodSeconds=7))
        await edge.until(lambda: edge.phase() == "Running")
        await edge.drop("Pod", "web", "u-1")
        await edge.until(lambda: not edge.runtime.sandboxes and not edge.store.notes)
    assert edge.ended() == []
    assert [c[2] for c in edge.runtime.calls if c[0] == "stop_container"] == [7]


async def test_a_pod_of_the_same_name_and_another_uid_replaces_the_first(edge):
    async with edge.running():
        await edge.put("Pod", pod_object())
        await edge.until(lambda: edge.phase() == "Running")
        await edge.put("Pod", pod_object(uid="u-2"))
        await edge.until(lambda: edge.phase() == "Running" and edge.store.reports[-1].uid == "u-2")
        await edge.until(lambda: {s.pod.uid for s in edge.runtime.sandboxes.values()} == {"u-2"})
    assert edge.ended() == []


async def test_a_restarted_agent_adopts_what_runs(edge):
    async with edge.running():
        await edge.put("Pod", pod_object())
        await edge.until(lambda: edge.phase() == "Running")
    calls, reports = list(edge.runtime.calls), len(edge.store.reports)
    async with edge.running():
        await asyncio.sleep(0.2)
    assert edge.runtime.calls == calls
    assert len(edge.store.reports) == reports


async def test_a_restarted_agent_without_its_memory_adopts_too(edge):
    async with edge.running():
        await edge.put("Pod", pod_object())
        await edge.until(lambda: edge.phase() == "Running")
    before, calls = edge.status(), list(edge.runtime.calls)
    edge.store.notes.clear()
    edge.store.reports.clear()
    edge.clock.now_s += 1000
    async with edge.running():
        await edge.until(lambda: edge.phase() == "Running")
    assert edge.runtime.calls == calls
    assert edge.status()["startTime"] == before["startTime"]
    assert edge.container()["containerID"] == before["containerStatuses"][0]["containerID"]


async def test_a_restarted_agent_finishes_a_delete(edge):
    async with edge.running():
        await edge.put("Pod", pod_object())
        await edge.until(lambda: edge.phase() == "Running")
    await edge.put("Pod", pod_object(metadata=DELETED))
    async with edge.running():
        await edge.until(lambda: edge.ended() == ["u-1"])
    assert edge.runtime.sandboxes == {}


async def test_a_restarted_agent_removes_what_has_no_record(edge):
    async with edge.running():
        await edge.put("Pod", pod_object(volumes=[{"name": "tmp", "emptyDir": {}}]))
        await edge.until(lambda: edge.phase() == "Running")
    edge.store.objects.clear()
    async with edge.running():
        await edge.until(lambda: not edge.runtime.sandboxes and not edge.store.notes)
        await edge.until(lambda: not (edge.folder / "pods/volumes/u-1").exists())


async def test_files_without_a_pod_are_removed_at_start(edge):
    (edge.folder / "pods/volumes/u-9/volumes").mkdir(parents=True)
    async with edge.running():
        await edge.until(lambda: not (edge.folder / "pods/volumes/u-9").exists())


async def test_a_lost_database_does_not_end_what_runs_until_the_cloud_was_heard(
    tmp_path, clock, monkeypatch
):
    monkeypatch.setattr(manager, "RELIST_S", 0.02)
    edge = Edge(tmp_path, clock, uplink=FakeUplink())
    async with edge.running():
        await edge.put("Pod", pod_object())
        await edge.until(lambda: edge.phase() == "Running")
    edge.store.objects.clear()
    edge.store.notes.clear()
    async with edge.running():
        await asyncio.sleep(0.1)
        assert edge.runtime.container("app").finished_s == 0
        edge.uplink.connected = True
        await asyncio.sleep(0.1)
        assert edge.runtime.container("app").finished_s == 0
        clock.now_s += manager.ORPHAN_PATIENCE_S
        await edge.until(lambda: not edge.runtime.sandboxes)


async def test_unchanged_statuses_are_reported_again_when_the_cloud_asks(tmp_path, clock):
    edge = Edge(tmp_path, clock, uplink=FakeUplink())
    async with edge.running():
        await edge.put("Pod", pod_object())
        await edge.until(lambda: edge.phase() == "Running")
        await edge.until(lambda: edge.container().get("ready"))
        before = len(edge.store.reports)
        edge.uplink.ask_for_everything()
        await edge.until(lambda: len(edge.store.reports) == before + 1)
        assert edge.store.reports[-1].key.kind == "Pod"


async def test_a_runtime_that_was_away_costs_no_restart(edge, monkeypatch, caplog):
    monkeypatch.setattr(manager, "RELIST_S", 0.02)
    async with edge.running():
        await edge.put("Pod", pod_object())
        await edge.until(lambda: edge.phase() == "Running")
        calls = list(edge.runtime.calls)
        edge.runtime.down = True
        await edge.put("Pod", pod_object("other", "u-2"))
        await asyncio.sleep(0.2)
        edge.runtime.down = False
        await edge.until(lambda: edge.phase("other") == "Running")
    assert edge.runtime.calls[: len(calls)] == calls
    assert edge.container()["restartCount"] == 0
    warnings = [r for r in caplog.records if r.levelname == "WARNING"]
    assert [r.getMessage() for r in warnings] == ["container runtime: connection refused"]


async def test_a_call_of_one_pod_that_the_runtime_did_not_answer_is_made_again(edge, monkeypatch):
    monkeypatch.setattr(manager, "RELIST_S", 3600)  # nobody but the pod itself meets the fault
    monkeypatch.setattr("edgecore.edged.pods.worker.RETRY_S", 0.02)
    async with edge.running():
        await edge.put("Pod", pod_object())
        await edge.until(lambda: edge.phase() == "Running")
        edge.runtime.down = True
        await edge.put("Pod", pod_object("other", "u-2"))
        await asyncio.sleep(0.2)
        edge.runtime.down = False
        await edge.until(lambda: edge.phase("other") == "Running")


async def test_with_events_an_exit_is_noticed_before_the_next_relist(edge, monkeypatch):
    monkeypatch.setattr(manager, "RELIST_S", 3600)
    edge.runtime.changes = asyncio.Queue()
    async with edge.running():
        await edge.put("Pod", pod_object(restartPolicy="Never"))
        await edge.until(lambda: edge.phase() == "Running")
        edge.runtime.exit("app", 0)
        edge.runtime.changes.put_nowait("u-1")
        await edge.until(lambda: edge.phase() == "Succeeded")


async def test_a_missing_config_map_is_named_and_awaited(edge):
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "a"}}}]
    async with edge.running():
        await edge.put("Pod", pod_object(containers=[container(env=env)]))
        await edge.until(lambda: edge.waiting().get("reason") == "CreateContainerConfigError")
        assert edge.waiting()["message"] == 'configmap "cfg" not found'
        assert edge.phase() == "Pending"
        await edge.put("ConfigMap", config_map("cfg", a="1"))
        await edge.until(lambda: edge.phase() == "Running")
    config = edge.runtime.configs[edge.runtime.container("app").id]
    assert list(config.env) == [("A", "1")]
    assert ("Warning", "Failed", 'Error: configmap "cfg" not found') in edge.events()


async def test_a_volume_of_a_missing_secret_holds_the_pod_until_it_appears(edge):
    volumes = [{"name": "keys", "secret": {"secretName": "s"}}]
    async with edge.running():
        await edge.put("Pod", pod_object(volumes=volumes))
        message = 'MountVolume.SetUp failed for volume "keys" : secret "s" not found'
        await edge.until(lambda: ("Warning", "FailedMount", message) in edge.events())
        assert edge.waiting() == {"reason": "ContainerCreating"}
        assert edge.runtime.sandboxes == {}
        await edge.put("Secret", secret("s", key="v"))
        await edge.until(lambda: edge.phase() == "Running")
        await edge.drop("Pod", "web")
        await edge.until(lambda: not edge.store.notes)


async def test_a_changed_config_map_reaches_the_mounted_file(edge):
    mounts = [{"name": "cfg", "mountPath": "/etc/app"}]
    pod = pod_object(
        containers=[container(volumeMounts=mounts)],
        volumes=[{"name": "cfg", "configMap": {"name": "cfg"}}],
    )
    file = edge.folder / "pods/volumes/u-1/volumes/kubernetes.io~configmap/cfg/key"
    async with edge.running():
        await edge.put("ConfigMap", config_map("cfg", key="old"))
        await edge.put("Pod", pod)
        await edge.until(lambda: edge.phase() == "Running")
        assert file.read_text() == "old"
        await edge.put("ConfigMap", config_map("cfg", key="new"))
        await edge.until(lambda: file.read_text() == "new")
    config = edge.runtime.configs[edge.runtime.container("app").id]
    (mount,) = [m for m in config.mounts if m.container_path == "/etc/app"]
    assert (mount.host_path, mount.read_only) == (str(file.parent), True)
    assert edge.container()["restartCount"] == 0


async def test_a_pod_waits_for_its_first_token_and_says_so(edge):
    source = {"serviceAccountToken": {"path": "token"}}
    volumes = [{"name": "kube-api-access", "projected": {"sources": [source]}}]
    async with edge.running():
        await edge.put("Pod", pod_object(volumes=volumes))
        await edge.until(lambda: edge.events())
        assert edge.phase() == "Pending"
    (event, *_) = edge.events()
    assert event[:2] == ("Warning", "FailedMount")
    assert event[2] == (
        'MountVolume.SetUp failed for volume "kube-api-access" : failed to fetch token: '
        "cloudcore cannot be reached"
    )


async def test_a_field_of_a_newer_api_is_named_once(edge):
    pod = pod_object(containers=[container(restartPolicyRules=[{"action": "Restart"}])])
    async with edge.running():
        await edge.put("Pod", pod)
        await edge.until(lambda: edge.phase() == "Running")
    async with edge.running():
        await asyncio.sleep(0.1)
    named = [m for _, reason, m in edge.events() if reason == "FieldNotServed"]
    assert named == ["not known to this release and ignored: spec.containers.restartPolicyRules"]


async def test_an_image_that_cannot_be_pulled_backs_off(edge):
    async with edge.running():
        await edge.put("Pod", pod_object(containers=[container(image="nowhere:1")]))
        await edge.until(lambda: edge.waiting().get("reason") == "ErrImagePull")
        edge.clock.now_s += 3
        await edge.put("Pod", pod_object(containers=[container(image="nowhere:1")]))
        await edge.until(lambda: edge.waiting().get("reason") == "ImagePullBackOff")
        edge.runtime.registry["nowhere:1"] = ImageState("sha256:n", ("nowhere:1",), 7)
        edge.clock.now_s += 10
        await edge.put("Pod", pod_object(containers=[container(image="nowhere:1")]))
        await edge.until(lambda: edge.phase() == "Running")
    reasons = [reason for _, reason, _ in edge.events()]
    assert reasons == [
        "Pulling",
        "Failed",
        "Failed",
        "BackOff",
        "Failed",
        "Pulling",
        "Pulled",
        "Created",
        "Started",
    ]


async def test_an_image_that_must_be_there_and_is_not_is_never_pulled(edge):
    pod = pod_object(containers=[container(image="nowhere:1", imagePullPolicy="Never")])
    async with edge.running():
        await edge.put("Pod", pod)
        await edge.until(lambda: edge.waiting().get("reason") == "ErrImageNeverPull")
    assert not [c for c in edge.runtime.calls if c[0] == "pull"]


async def test_a_start_that_is_refused_again_and_again_is_logged_once(edge, caplog):
    pod = pod_object(containers=[container(image="nowhere:1", imagePullPolicy="Never")])
    async with edge.running():
        for attempt in range(1, 4):
            await edge.put("Pod", pod)
            await edge.until(lambda: [e[1] for e in edge.events()].count("Failed") == attempt)  # noqa: B023
            edge.clock.now_s += 20
    said = [r.levelname for r in caplog.records if r.getMessage().startswith("not started: ")]
    assert said.count("WARNING") == 1


async def test_always_pulls_even_what_is_there_and_fails_without_its_registry(edge):
    pod = pod_object(containers=[container(imagePullPolicy="Always")])
    async with edge.running():
        await edge.put("Pod", pod)
        await edge.until(lambda: edge.waiting().get("reason") == "ErrImagePull")


async def test_a_delete_interrupts_a_pull(edge):
    edge.runtime.pull_gate = asyncio.Event()
    pod = pod_object(containers=[container(image="slow:1")])
    async with edge.running():
        await edge.put("Pod", pod)
        await edge.until(lambda: ("pull", "slow:1") in edge.runtime.calls)
        pod["metadata"] |= DELETED
        await edge.put("Pod", pod)
        await edge.until(lambda: edge.ended() == ["u-1"])


async def test_a_command_that_cannot_start_is_a_run_container_error(edge):
    edge.runtime.refuse_start.add("app")
    async with edge.running():
        await edge.put("Pod", pod_object())
        await edge.until(lambda: edge.waiting().get("reason") == "RunContainerError")
        assert edge.waiting()["message"] == "exec: no such file"


async def test_a_sandbox_that_cannot_be_made_is_an_event(edge):
    edge.runtime.refuse_sandbox = "no network"
    async with edge.running():
        await edge.put("Pod", pod_object())
        event = ("Warning", "FailedCreatePodSandBox", "Failed to create pod sandbox: no network")
        await edge.until(lambda: event in edge.events())
        assert edge.waiting() == {"reason": "ContainerCreating"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"containers": []}, "spec.containers"),
        ({"containers": [{"name": 7}]}, "spec.containers[0].name"),
        ({"restartPolicy": "Sometimes"}, "Sometimes"),
        ({"containers": [container(resources={"limits": {"cpu": "lots"}})]}, "lots"),
        ({"containers": [container(), container()]}, "used twice"),
    ],
)
async def test_a_record_that_is_no_pod_fails_by_name_and_can_be_deleted(edge, change, named):
    pod = pod_object()
    pod["spec"] |= change
    async with edge.running():
        await edge.put("Pod", pod)
        await edge.until(lambda: edge.phase() == "Failed")
        assert named in edge.status()["message"]
        pod["metadata"] |= DELETED
        await edge.put("Pod", pod)
        await edge.until(lambda: edge.ended() == ["u-1"])


async def test_thirty_pods_start_together(edge):
    async with edge.running():
        for n in range(30):
            await edge.put("Pod", pod_object(f"web-{n}", f"u-{n}"))
        await edge.until(lambda: all(edge.phase(f"web-{n}") == "Running" for n in range(30)))


async def test_a_termination_message_is_in_the_status(edge):
    async with edge.running():
        await edge.put("Pod", pod_object(restartPolicy="Never"))
        await edge.until(lambda: edge.phase() == "Running")
        (edge.folder / "pods/volumes/u-1/containers/app/0").write_text("disk on fire")
        edge.runtime.exit("app", 3)
        await edge.until(lambda: edge.phase() == "Failed")
    assert edge.container()["state"]["terminated"]["message"] == "disk on fire"


async def test_memory_of_another_version_does_not_stop_the_agent(edge):
    edge.store.notes["edged", "u-1"] = json.dumps({"namespace": 7}).encode()
    async with edge.running():
        await edge.put("Pod", pod_object())
        await edge.until(lambda: edge.phase() == "Running")


async def test_a_root_folder_that_cannot_be_made_is_refused_by_name(edge):
    (edge.folder / "pods").write_text("not a folder")
    with pytest.raises(ConfigError, match=r"pods.root_dir: .*/pods/volumes: Not a directory"):
        async with edge.running():
            pass
