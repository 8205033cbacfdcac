"""Pods that have ended or are being deleted: their last status, and what they give back before anybody reads it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.fakes.pods import container, pod_object
from tests.integration.edged.lab import FOREVER, deleted, shell
from tests.integration.edged.onenode import GROUP, PATIENCE_S
from tests.integration.edged.onenode import shell as node_shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(120)]
SPACES = [
    {"name": "disk", "emptyDir": {}},
    {"name": "memory", "emptyDir": {"medium": "Memory"}},
]
MOUNTS = [{"name": s["name"], "mountPath": f"/{s['name']}"} for s in SPACES]
POLICIES = ("Always", "OnFailure", "Never")


async def test_a_pod_that_has_ended_gives_its_volumes_and_its_cgroup_back_and_keeps_its_log(node):
    script = "echo x > /disk/x; echo x > /memory/x; echo why > /dev/termination-log; echo done"
    app = node_shell(script, volumeMounts=MOUNTS)
    async with node.with_settings() as edge:
        folder = edge.folder / "pods/volumes/u-1"
        await edge.put("Pod", pod_object(containers=[app], volumes=SPACES, restartPolicy="Never"))
        await edge.until(lambda: edge.phase() == "Succeeded", PATIENCE_S)
        await edge.until(lambda: {f.name for f in folder.iterdir()} == {"containers"}, PATIENCE_S)
        assert str(folder) not in Path("/proc/self/mounts").read_text()
        await edge.until(lambda: not list(Path("/sys/fs/cgroup").glob(f"*{GROUP}/**/podu-1")))
        log = edge.folder / "logs/default_web_u-1/app/0.log"
        assert log.read_text().endswith("done\n")
        assert edge.container()["state"]["terminated"]["message"] == "why\n"


async def test_a_deleted_pod_has_its_final_phase_and_no_volumes_by_then(lab):
    ends = {}  # name -> phase when it was told first, and whether volumes were there

    def watch(reports):
        for report in reports:
            status = json.loads(report.body).get("status", {}) if report.body else {}
            if report.key.kind == "Pod" and status.get("phase") in ("Succeeded", "Failed"):
                there = (lab.folder / f"pods/volumes/{report.uid}/volumes").exists()
                ends.setdefault(report.key.name, (status["phase"], there))

    lab.store.watch = watch
    pods = {}
    for policy in POLICIES:
        spec = {"volumes": SPACES, "restartPolicy": policy}
        for kind, script in (
            ("good", FOREVER),
            ("killed", "trap '' TERM; while :; do sleep 0.1; done"),
        ):
            name = f"{kind}-{policy.lower()}"
            app = shell(f"echo ready; {script}", volumeMounts=MOUNTS)
            pods[name] = pod_object(name, f"u-{name}", [app], **spec)
    missing = container(image="registry.invalid/none:1", imagePullPolicy="Never")
    pods["pending"] = pod_object("pending", "u-pending", [missing], volumes=SPACES)
    async with lab.running():
        for made in pods.values():
            await lab.put("Pod", made)
        running = [name for name in pods if name != "pending"]
        await lab.until(lambda: all(lab.log("app", 0, n, f"u-{n}") for n in running))
        await lab.until(lambda: lab.waiting("pending").get("reason") == "ErrImageNeverPull")
        for name, made in pods.items():
            made["metadata"] |= deleted(1 if name.startswith("killed") else 30)
            await lab.put("Pod", made)
        await lab.until(lambda: all(lab.ended(name) for name in pods))
        bodies = {
            r.key.name: json.loads(r.body) for r in lab.store.reports if r.op.name == "TOMBSTONE"
        }
        for name in pods:
            await lab.drop("Pod", name, f"u-{name}")
        await lab.until(lambda: not list((lab.folder / "pods/volumes").iterdir()))
    good = {name: ("Succeeded", False) for name in pods if name.startswith("good")}
    bad = {name: ("Failed", False) for name in pods if not name.startswith("good")}
    assert ends == {**good, **bad}
    for name in running:
        state = bodies[name]["status"]["containerStatuses"][0]["state"]["terminated"]
        assert state["exitCode"] == (0 if name in good else 137)
        assert state["reason"] == ("Completed" if name in good else "Error")


async def test_a_message_within_a_volume_that_propagates_both_ways_is_read_and_leaves_nothing(lab):
    """The runtime mounts the file of the message into the volume, and that mount comes back to the node."""
    place = lab.folder / "pods"
    place.mkdir()
    for command in (["--bind", place, place], ["--make-shared", place]):
        subprocess.run(["mount", *map(str, command)], check=True)  # noqa: ASYNC221
    app = shell(
        f"echo it went well > /cache/log.txt; {FOREVER}",
        terminationMessagePath="/cache/log.txt",
        volumeMounts=[
            {"name": "cache", "mountPath": "/cache", "mountPropagation": "Bidirectional"}
        ],
        securityContext={"privileged": True},
    )
    try:
        async with lab.pod(app, volumes=[{"name": "cache", "emptyDir": {}}]) as made:
            message = lab.folder / "pods/volumes/u-1/containers/app/0"
            await lab.until(lambda: message.exists() and message.read_text())
            assert f"{lab.folder}/pods/volumes/u-1/" in Path("/proc/self/mounts").read_text()
            await lab.delete(made, 15)
            assert not (lab.folder / "pods/volumes/u-1").exists()
        ended = json.loads(lab.store.reports[-1].body)["status"]["containerStatuses"][0]["state"]
        assert ended["terminated"]["message"] == "it went well\n"
    finally:
        subprocess.run(["umount", "-R", "-l", str(place)], check=False)  # noqa: ASYNC221
