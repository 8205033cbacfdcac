"""Pods from files of the node, on a real containerd; the test does the cloud's part for their mirrors."""

from __future__ import annotations

import json
import time

import pytest
import yaml

from armadillo.images import PAUSE_IMAGE
from edgecore.edged.pods import manager
from synccore.messages import Op
from tests.fakes.pods import container
from tests.integration.edged.lab import IMAGE, Lab, RecordingStore

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(120)]
NAME = "web-edge-1"
# Takes its time to end, and says when it begins and when it has.
SLOW = "trap 'echo ending; sleep 2; echo ended; exit 0' TERM; echo up; while :; do sleep 0.1; done"


@pytest.fixture
async def lab(tmp_path, cri, monkeypatch):
    monkeypatch.setattr(manager, "STATIC_SCAN_S", 0.05)
    async with RecordingStore(tmp_path / "edge.db") as store:
        folder = tmp_path / "manifests"
        folder.mkdir()
        yield Lab(
            tmp_path, time.time, store=store, runtime=cri, settings={"static_dir": str(folder)}
        )


def write(lab, image=IMAGE, **spec):
    app = container(image=image, command=["/bin/sh", "-c", SLOW])
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [app], "terminationGracePeriodSeconds": 20, **spec},
    }
    (lab.folder / "manifests/web.yaml").write_text(yaml.safe_dump(made))


def wishes(lab):
    return [r for r in lab.store.reports if r.key.kind == "MirrorPod"]


async def mirrored(lab, number, **metadata):
    """Do what the wish of that number asks for; return the mirror once it is told to run."""
    await lab.until(lambda: len(wishes(lab)) > number)
    body = json.loads(wishes(lab)[number].body)
    body["metadata"] |= {"uid": f"m-{number}", **metadata}
    await lab.put("Pod", body)
    await lab.until(lambda: lab.phase(NAME) == "Running" and last(lab).uid == f"m-{number}")
    return body


def last(lab):
    return [r for r in lab.store.reports if r.key == ("Pod", "default", NAME)][-1]


def said(lab, number, attempt=0):
    uid = wishes(lab)[number].uid
    return lab.log("app", attempt, NAME, uid)


async def test_a_changed_file_ends_the_pod_in_its_grace_and_then_starts_the_next(lab):
    write(lab)
    async with lab.running():
        first = await mirrored(lab, 0)
        await lab.until(lambda: said(lab, 0) == ["up"])
        for number in range(5):  # changes come faster than it ends
            write(lab, f"none.test/image:{number}")
            await lab.until(lambda: "ending" in said(lab, 0))
        write(lab, PAUSE_IMAGE)
        log = said(lab, 0)
        assert len(wishes(lab)) == 1 or "ended" in log  # until then it stands for the old one
        second = await mirrored(lab, 1)
        uids = [
            m["metadata"]["annotations"]["kubernetes.io/config.mirror"] for m in (first, second)
        ]
        assert uids[0] != uids[1]
        assert second["spec"]["containers"][0]["image"] == PAUSE_IMAGE
        assert {s.pod.uid for s in await lab.runtime.list_sandboxes()} == {uids[1]}
        ends = [m for _, r, m in lab.events() if r == "Killing"]
        assert ends == ["Stopping container app"]
        await lab.until(lambda: said(lab, 1) == ["up"])
        (lab.folder / "manifests/web.yaml").unlink()
        await lab.until(lambda: "ending" in said(lab, 1))
        # Its mirror is there until it has ended.
        still = [w for w in wishes(lab) if w.op is Op.TOMBSTONE]
        assert not still or "ended" in said(lab, 1)
        await lab.until(lambda: wishes(lab)[-1].op is Op.TOMBSTONE)
        assert await lab.runtime.list_sandboxes() == []


@pytest.mark.parametrize("grace_s", [30, 0])
async def test_a_deleted_mirror_is_made_again_and_the_pod_runs_on(lab, grace_s):
    write(lab)
    async with lab.running():
        mirror = await mirrored(lab, 0)
        before = lab.container(NAME)["containerID"]
        if grace_s:
            mirror["metadata"] |= {
                "deletionTimestamp": "2026-11-23T08:00:00Z",
                "deletionGracePeriodSeconds": grace_s,
            }
            await lab.put("Pod", mirror)
            await lab.until(lambda: lab.ended(NAME) == ["m-0"])
        await lab.drop("Pod", NAME, "m-0")
        await mirrored(lab, 1)
        assert lab.container(NAME)["containerID"] == before
        assert lab.container(NAME)["restartCount"] == 0
        (lab.folder / "manifests/web.yaml").unlink()
        await lab.until(lambda: wishes(lab)[-1].op is Op.TOMBSTONE)
