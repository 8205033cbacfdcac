"""What containers see of their volumes: real containerd, the real store, and a cloud that answers for tokens."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from corekit.timestamps import rfc3339
from edgecore.edged.cri import CriRuntime
from edgecore.edged.volumes import mounts
from edgecore.records import Commit
from synccore.asking import AskError
from synccore.messages import Delta, ObjectKey, Op
from tests.fakes.edge import Edge
from tests.fakes.pods import config_map, pod_object, secret
from tests.fakes.uplink import FakeUplink
from tests.integration.edged.test_pods import FOREVER, RecordingStore, log, running_pod, shell

pytestmark = [pytest.mark.timeout(90), pytest.mark.containerd]


class Tokens:
    """Numbers the tokens it makes."""

    def __init__(self, uplink):
        self.made, self.life_s = 0, 3600
        uplink.connected, uplink.answer = True, self

    def __call__(self, kind, _body):
        if kind != "TokenRequest":  # the node's other questions are not these tests' business
            raise AskError(kind, 404, "no such kind of question")
        self.made += 1
        end = rfc3339(time.time() + self.life_s)
        return json.dumps({"token": f"token-{self.made}", "expirationTimestamp": end}).encode()


@pytest.fixture
async def edge(tmp_path, containerd):
    runtime = CriRuntime(str(containerd.socket), owner=f"edge-{os.urandom(4).hex()}")
    async with RecordingStore(tmp_path / "edge.db") as store:
        edge = Edge(tmp_path, time.time, store=store, runtime=runtime, uplink=FakeUplink())
        yield edge
        for sandbox in await runtime.list_sandboxes():
            await runtime.remove_sandbox(sandbox.id)
        left = [m for m in Path("/proc/self/mounts").read_text().splitlines() if str(tmp_path) in m]
        for line in left:
            subprocess.run(["umount", "-l", line.split()[1]], check=False)  # noqa: ASYNC221
    await runtime.close()
    assert [m for m in left if "/volumes/" in m] == []


def mount(name, path=None, **fields):
    return {"name": name, "mountPath": path or f"/{name}", **fields}


def projected_token(path="token"):
    return {"serviceAccountToken": {"path": path, "expirationSeconds": 3600}}


async def put_cluster_object(edge, kind, namespace, name, body, uid):
    obj = {"kind": kind, "metadata": {"name": name, "namespace": namespace, "uid": uid}, **body}
    obj["metadata"] |= body.get("metadata", {})
    key = ObjectKey(kind, namespace, name)
    delta = Delta(Op.UPSERT, key, uid, time.time_ns(), body=json.dumps(obj).encode())
    await edge.store.commit(Commit(deltas=[delta]))


async def test_files_have_the_modes_owners_and_sizes_that_kubelet_gives_them(edge):
    Tokens(edge.uplink)
    await edge.put("ConfigMap", config_map("cfg", plain="1", picked="2"))
    await edge.put("Secret", secret("big", blob="x" * (1 << 20)))
    items = [{"key": "picked", "path": "deep/er", "mode": 0o400}]
    names = ("scratch", "memory", "cfg", "picked", "big", "api")
    volumes = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "cfg", "configMap": {"name": "cfg"}},
        {"name": "picked", "configMap": {"name": "cfg", "items": items}},
        {"name": "big", "secret": {"secretName": "big", "defaultMode": 0o400}},
        {"name": "api", "projected": {"sources": [projected_token()], "defaultMode": 0o644}},
    ]
    script = """
        id -u; id -G
        for f in /scratch /memory /cfg/..data/plain /picked/deep/er /big/blob /api/token
        do stat -L -c '%n %a %u %g' $f; done
        wc -c < /big/blob; cat /api/token; echo
        touch /scratch/mine /memory/mine && stat -c '%g' /scratch/mine
        dd if=/dev/zero of=/memory/full bs=1k count=2048 2>/dev/null || echo full
        for d in cfg big api; do touch /$d/x 2>/dev/null || echo $d is read-only; done
        grep -c ' /memory tmpfs' /proc/mounts; grep -c ' /big tmpfs' /proc/mounts
    """
    app = shell(script, volumeMounts=[mount(name) for name in names])
    context = {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000}
    async with running_pod(
        edge, app, volumes=volumes, securityContext=context, restartPolicy="Never"
    ):
        await edge.until(lambda: edge.phase() in ("Succeeded", "Failed"), 30)
        lines = log(edge)
    assert lines == [
        "1000",
        "1000 2000",
        "/scratch 2777 0 2000",
        "/memory 2777 0 2000",
        "/cfg/..data/plain 644 0 2000",
        "/picked/deep/er 440 0 2000",
        "/big/blob 440 0 2000",
        "/api/token 640 1000 2000",
        str(1 << 20),
        "token-1",
        "2000",
        "full",
        "cfg is read-only",
        "big is read-only",
        "api is read-only",
        "1",
        "1",
    ]


async def test_running_containers_see_new_labels_optional_objects_and_renewed_tokens(edge):
    tokens = Tokens(edge.uplink)
    labels = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    volumes = [
        {"name": "facts", "downwardAPI": {"items": [labels]}},
        {"name": "maybe", "configMap": {"name": "maybe", "optional": True}},
        {"name": "api", "projected": {"sources": [projected_token()]}},
    ]
    script = """
        trap 'exit 0' TERM
        while :; do
          now="$(cat /facts/labels) $(ls /maybe) $(cat /api/token)"
          [ "$now" = "$before" ] || echo "$now"
          before="$now"; sleep 0.1
        done
    """
    app = shell(script, volumeMounts=[mount(v["name"]) for v in volumes])
    pod = pod_object(containers=[app], volumes=volumes, metadata={"labels": {"v": "1"}})
    shown = lambda text: edge.until(lambda: text in log(edge), 20)  # noqa: E731
    async with edge.running() as edged:
        await edge.put("Pod", pod)
        await shown('v="1"  token-1')
        pod["metadata"]["labels"] = {"v": "2"}
        await edge.put("Pod", pod)
        await shown('v="2"  token-1')
        await edge.put("ConfigMap", config_map("maybe", here="x"))
        await shown('v="2" here token-1')
        await edge.drop("ConfigMap", "maybe")
        await shown('v="2"  token-1')
        now_s = time.time()
        edged._site.tokens._clock = lambda: now_s + 0.9 * 3600
        edged._wake_all()
        await shown('v="2"  token-2')
        assert tokens.made == 2
        await edge.drop("Pod", "web", "u-1")
        await edge.until(lambda: not (edge.folder / "pods/volumes/u-1").exists(), 20)
        await edge.until(lambda: not edged._workers, 20)  # its last steps come after the files
    assert await edge.store.local("edged-tokens") == {}


async def test_a_node_that_boots_without_a_link_starts_its_pods_with_their_last_tokens(edge):
    Tokens(edge.uplink)
    volumes = [{"name": "api", "projected": {"sources": [projected_token()]}}]
    app = shell(f"cat /api/token; echo; {FOREVER}", volumeMounts=[mount("api")])
    async with edge.running():
        await edge.put("Pod", pod_object(containers=[app], volumes=volumes))
        await edge.until(lambda: log(edge) == ["token-1"], 20)
        await edge.until(lambda: edge.phase() == "Running", 20)
    for (
        sandbox
    ) in await edge.runtime.list_sandboxes():  # the boot: nothing runs, nothing is mounted,
        await edge.runtime.remove_sandbox(sandbox.id)
    mounts.unmount_below(edge.folder / "pods/volumes/u-1")
    edge.uplink = FakeUplink()  # the cloud is away,
    edge.clock = lambda: time.time() + 2 * 86400  # and the token is long out of date
    async with edge.running():
        await edge.until(lambda: log(edge, attempt=1) == ["token-1"], 20)
        reason, message = await edge.until(
            lambda: next((e[1:] for e in edge.events() if e[1] == "TokenExpired"), None), 20
        )
        assert message.startswith('token "token" of service account default expired')
        await edge.drop("Pod", "web", "u-1")
        await edge.until(lambda: not (edge.folder / "pods/volumes/u-1").exists(), 20)
    assert reason == "TokenExpired"


async def test_a_link_that_a_container_plants_does_not_lead_its_next_start_out_of_the_volume(edge):
    secret_file = edge.folder / "host-secret"
    secret_file.mkdir()
    (secret_file / "key").write_text("of the node")
    script = f"""
        [ -e /all/sub/key ] && cat /all/sub/key
        ls /sub; cat /sub/key 2>/dev/null
        rm -rf /all/sub; ln -s {secret_file} /all/sub; exit 1
    """
    app = shell(script, volumeMounts=[mount("all"), mount("all", "/sub", subPath="sub")])
    async with running_pod(edge, app, volumes=[{"name": "all", "emptyDir": {}}]):
        message = (
            await edge.until(
                lambda: (
                    edge.waiting()
                    if edge.waiting().get("reason") == "CreateContainerConfigError"
                    else None
                ),
                60,
            )
        )["message"]
        assert message == (
            'failed to prepare subPath for volumeMount "all" of container "app": '
            "subPath 'sub' leaves its volume"
        )
        assert log(edge) == []
    assert (secret_file / "key").read_text() == "of the node"


async def test_sub_paths_are_made_with_the_volumes_mode_and_take_names_from_the_environment(edge):
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    sub = mount("all", "/own", subPathExpr="of/$(POD)")
    app = shell(
        "echo hello > /own/file; cat /all/of/web/file; stat -c %a /all/of",
        env=env,
        volumeMounts=[mount("all"), sub],
    )
    lost = shell("true", "lost", volumeMounts=[mount("all", "/x", subPathExpr="$(NOPE)")])
    async with running_pod(edge, app, lost, volumes=[{"name": "all", "emptyDir": {}}]):
        await edge.until(lambda: log(edge) == ["hello", "777"], 20)
        await edge.until(
            lambda: (
                edge.waiting(index=1).get("message")
                == 'missing value for "NOPE" required for expansion'
            ),
            20,
        )


async def test_a_node_shows_pods_only_the_host_paths_that_it_allows(edge):
    allowed, other = edge.folder / "allowed", edge.folder / "other"
    for folder in (allowed, other):
        folder.mkdir()
        (folder / "file").write_text(f"{folder.name}\n")
    (allowed / "way-out").symlink_to(other)
    edge.settings = dataclasses.replace(edge.settings, allowed_host_paths=(str(allowed),))
    app = shell(f"cat /host/file; {FOREVER}", volumeMounts=[mount("host")])
    async with edge.running():
        for name, path in (("good", allowed), ("bad", other), ("sly", allowed / "way-out")):
            volumes = [{"name": "host", "hostPath": {"path": str(path)}}]
            pod = pod_object(name, f"u-{name}", containers=[app], volumes=volumes)
            await edge.put("Pod", pod)
        folder = edge.folder / "logs/default_good_u-good/app/0.log"
        await edge.until(lambda: folder.exists() and "allowed" in folder.read_text(), 30)
        refused = lambda: {m for _, r, m in edge.events() if r == "FailedMount"}  # noqa: E731
        await edge.until(lambda: len(refused()) == 2, 20)
        assert refused() == {
            f'MountVolume.SetUp failed for volume "host" : hostPath {shown} is not allowed on this '
            f"node: pods.allowed_host_paths has {allowed}"
            for shown in (str(other), f"{allowed}/way-out (which is {other})")
        }
        for name in ("good", "bad", "sly"):
            await edge.drop("Pod", name, f"u-{name}")
        await edge.until(lambda: not list((edge.folder / "pods/volumes").iterdir()), 30)
    assert (allowed / "file").read_text() == "allowed\n"


async def test_a_pod_waits_for_its_claim_and_then_writes_to_the_volume(edge):
    disk = edge.folder / "disk"
    disk.mkdir()
    (disk / "old").write_text("x")
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    app = shell(
        "id -G; stat -c '%a %g' /data/old; echo kept > /data/new", volumeMounts=[mount("data")]
    )
    context = {"runAsUser": 1000, "fsGroup": 2000}
    async with running_pod(
        edge, app, volumes=volumes, securityContext=context, restartPolicy="Never"
    ):
        words = (
            "unmounted volumes=[data], unattached volumes=[], failed to process volumes=[data]: "
        )
        words += "error processing PVC default/data: "
        said = lambda text: edge.until(  # noqa: E731
            lambda: any(r == "FailedMount" and words + text in m for _, r, m in edge.events()), 20
        )
        await said('failed to fetch PVC from API server: persistentvolumeclaims "data" not found')
        await put_cluster_object(
            edge, "PersistentVolumeClaim", "default", "data", {"spec": {}}, "c-1"
        )
        await said("PVC is not bound")
        source = {"local": {"path": str(disk)}, "claimRef": {"uid": "c-1"}}
        await put_cluster_object(edge, "PersistentVolume", "", "disk", {"spec": source}, "v-1")
        done = {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
        claim = {"metadata": done, "spec": {"volumeName": "disk"}}
        await put_cluster_object(edge, "PersistentVolumeClaim", "default", "data", claim, "c-1")
        await edge.until(lambda: edge.phase() == "Succeeded", 30)
        assert log(edge) == ["0 2000", "664 2000"]
    assert (disk / "new").read_text() == "kept\n"  # the volume outlives its pod


async def test_mounts_propagate_as_they_are_asked_to(edge):
    shared = edge.folder / "shared"
    shared.mkdir()
    for command in (["--bind", shared, shared], ["--make-shared", shared]):
        subprocess.run(["mount", *map(str, command)], check=True)  # noqa: ASYNC221
    (shared / "late").mkdir()
    wait = (
        "trap 'exit 0' TERM; until [ -e /shared/late/here ]; do sleep 0.1; done; echo seen; "
        + FOREVER
    )
    volumes = [{"name": "shared", "hostPath": {"path": str(shared)}}]
    follows = shell(
        wait, "follows", volumeMounts=[mount("shared", mountPropagation="HostToContainer")]
    )
    private = shell(wait, "private", volumeMounts=[mount("shared")])
    both = shell(wait, "both", volumeMounts=[mount("shared", mountPropagation="Bidirectional")])
    deep = {"readOnly": True, "recursiveReadOnly": "Enabled"}
    strict = shell(wait, "strict", volumeMounts=[mount("shared", **deep)])
    try:
        async with running_pod(edge, follows, private, both, strict, volumes=volumes):
            running = lambda: [  # noqa: E731
                "running" in edge.container(index=n).get("state", {}) for n in range(2)
            ]
            await edge.until(lambda: all(running()), 30)
            mounts.mount_tmpfs(shared / "late")
            (shared / "late/here").touch()
            await edge.until(lambda: log(edge, "follows") == ["seen"], 20)
            await asyncio.sleep(0.5)
            assert log(edge, "private") == []
            refused = [edge.waiting(index=n)["message"] for n in (2, 3)]
        assert "available only to privileged containers" in refused[0]
        assert refused[1].endswith(
            "recursive read-only mode, but it is not supported by the runtime"
        )
        assert (shared / "late/here").exists()  # the pod's end unmounted nothing of the node's
    finally:
        subprocess.run(["umount", "-R", "-l", str(shared)], check=False)  # noqa: ASYNC221


async def test_volumes_of_a_crashed_agent_are_unmounted_and_removed_and_binds_left_alone(edge):
    keep = edge.folder / "keep"
    keep.mkdir()
    (keep / "file").touch()
    orphan = edge.folder / "pods/volumes/u-orphan"
    secrets = orphan / "volumes/kubernetes.io~secret/s"
    secrets.mkdir(parents=True)
    mounts.mount_tmpfs(secrets)
    bound = orphan / "volume-subpaths/v/app/0"
    bound.mkdir(parents=True)
    mounts.bind(str(keep), bound)
    deep = orphan / "volumes/kubernetes.io~empty-dir/e"
    deep.mkdir(parents=True)
    fd = os.open(deep, os.O_RDONLY)
    for _ in range(1100):  # deeper than any recursion, longer than any path
        os.mkdir("deep", dir_fd=fd)
        inner = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    async with edge.running():
        edge.uplink.connected = True
        await edge.store.commit(Commit(local={("edged", "_known"): b"1"}))
        app = shell(FOREVER)
        await edge.put("Pod", pod_object(containers=[app]))
        await edge.until(lambda: edge.phase() == "Running", 30)
    async with edge.running():
        await edge.until(lambda: not orphan.exists(), 30)
        assert edge.phase() == "Running"
        await edge.drop("Pod", "web", "u-1")
        await edge.until(lambda: not (edge.folder / "pods/volumes/u-1").exists(), 20)
    assert (keep / "file").exists()
