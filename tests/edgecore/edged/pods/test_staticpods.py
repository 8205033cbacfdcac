"""Static pods: from files, without a cloud, and their mirrors in it."""

from __future__ import annotations

import asyncio
import json

import pytest
import yaml

from edgecore.edged.pods import manager
from edgecore.edged.pods.mirrors import ASK_AGAIN_S
from edgecore.edged.pods.staticpods import MAX_FILE_BYTES, StaticFolder
from synccore.messages import Op
from tests.fakes.edge import Edge
from tests.fakes.pods import container

NAME = "web-edge-1"
MARK = "kubernetes.io/config.mirror"


def manifest(name="web", **spec):
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"a": "b"}}}
    return made | {"spec": {"containers": [container()], **spec}}


def write(folder, pod, name="web.yaml"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(yaml.safe_dump(pod))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "manifests"


@pytest.fixture
def edge(tmp_path, clock, folder, monkeypatch):
    monkeypatch.setattr(manager, "STATIC_SCAN_S", 0.02)
    return Edge(tmp_path, clock, settings={"static_dir": str(folder)})


def wishes(edge):
    """(op, uid, body) of every word about mirrors."""
    found = [r for r in edge.store.reports if r.key.kind == "MirrorPod"]
    return [(r.op, r.uid, json.loads(r.body) if r.body else None) for r in found]


async def stand(edge, wish, uid="m-1", **metadata):
    """The cloud does what was wished: the mirror comes down as a record."""
    body = wish[2]
    body["metadata"] |= {"uid": uid, **metadata}
    await edge.put("Pod", body)


async def test_a_static_pod_runs_without_a_cloud(edge, folder):
    write(folder, manifest())
    async with edge.running():
        await edge.until(lambda: wishes(edge))
        await edge.until(lambda: ("start_container", "app") in edge.runtime.calls)
    ((op, uid, body),) = wishes(edge)
    assert op is Op.UPSERT
    meta = body["metadata"]
    assert (meta["name"], meta["namespace"], meta["labels"]) == (NAME, "default", {"a": "b"})
    assert meta["annotations"] == {
        MARK: uid,
        "kubernetes.io/config.hash": uid,
        "kubernetes.io/config.source": "file",
    }
    assert body["spec"]["nodeName"] == "edge-1"
    assert edge.status(NAME) == {}  # there is nothing yet to have a status


async def test_the_status_goes_to_the_mirror_and_its_end_does_not_end_the_pod(edge, folder):
    write(folder, manifest())
    async with edge.running():
        await edge.until(lambda: wishes(edge))
        await stand(edge, wishes(edge)[0])
        await edge.until(lambda: edge.phase(NAME) == "Running")
        told = [r for r in edge.store.reports if r.key.kind == "Pod"]
        assert {r.uid for r in told} == {"m-1"}
        calls = list(edge.runtime.calls)
        deletion = {"deletionTimestamp": "2026-11-23T08:00:00Z", "deletionGracePeriodSeconds": 30}
        await stand(edge, wishes(edge)[0], **deletion)
        await edge.until(lambda: edge.ended(NAME) == ["m-1"])
        await edge.drop("Pod", NAME, "m-1")
        await edge.until(lambda: len(wishes(edge)) == 2)
        await stand(edge, wishes(edge)[1], "m-2")
        await edge.until(lambda: edge.store.reports[-1].uid == "m-2")
        assert edge.runtime.calls == calls


async def test_a_changed_file_is_another_pod_and_a_removed_one_ends_it(edge, folder):
    write(folder, manifest())
    async with edge.running():
        await edge.until(lambda: wishes(edge))
        await stand(edge, wishes(edge)[0])
        await edge.until(lambda: edge.phase(NAME) == "Running")
        write(folder, manifest(terminationGracePeriodSeconds=7))
        await edge.until(lambda: len(wishes(edge)) == 2)
        first, second = (uid for _, uid, _ in wishes(edge))
        assert first != second
        await edge.until(lambda: {s.pod.uid for s in edge.runtime.sandboxes.values()} == {second})
        await stand(edge, wishes(edge)[1], "m-2")
        (folder / "web.yaml").unlink()
        await edge.until(lambda: not edge.runtime.sandboxes)
        await edge.until(lambda: wishes(edge)[-1] == (Op.TOMBSTONE, "m-2", None))


async def test_the_next_pod_of_a_file_waits_until_the_one_before_has_ended(edge, folder):
    write(folder, manifest())
    stopping, may_stop = asyncio.Event(), asyncio.Event()
    stop = edge.runtime.stop_container

    async def slowly(*args):
        stopping.set()
        await may_stop.wait()
        await stop(*args)

    edge.runtime.stop_container = slowly
    async with edge.running():
        await edge.until(lambda: wishes(edge))
        await stand(edge, wishes(edge)[0])
        await edge.until(lambda: edge.phase(NAME) == "Running")
        for grace_s in range(3, 6):  # only the last of several counts
            write(folder, manifest(terminationGracePeriodSeconds=grace_s))
            await asyncio.wait_for(stopping.wait(), 4)
            await asyncio.sleep(0.1)
        (first,) = edge.runtime.sandboxes.values()
        assert len(wishes(edge)) == 1  # the mirror stands for what runs
        may_stop.set()
        await edge.until(lambda: len(wishes(edge)) == 2)
        assert wishes(edge)[1][2]["spec"]["terminationGracePeriodSeconds"] == 5
        await edge.until(
            lambda: [s.pod.uid for s in edge.runtime.sandboxes.values()] == [wishes(edge)[1][1]]
        )
    assert first.pod.uid == wishes(edge)[0][1]
    assert [c[0] for c in edge.runtime.calls].count("run_sandbox") == 2


async def test_a_file_that_goes_and_comes_back_restarts_its_pod(edge, folder):
    write(folder, manifest())
    async with edge.running():
        await edge.until(lambda: wishes(edge))
        await stand(edge, wishes(edge)[0])
        await edge.until(lambda: edge.phase(NAME) == "Running")
        (folder / "web.yaml").unlink()
        await edge.until(lambda: not edge.runtime.sandboxes)
        await edge.until(lambda: wishes(edge)[-1] == (Op.TOMBSTONE, "m-1", None))
        await edge.drop("Pod", NAME, "m-1")
        write(folder, manifest())
        await edge.until(lambda: len(wishes(edge)) == 3)
        await stand(edge, wishes(edge)[2], "m-2")
        await edge.until(lambda: edge.runtime.sandboxes)
        await edge.until(
            lambda: edge.phase(NAME) == "Running" and edge.store.reports[-1].uid == "m-2"
        )


async def test_a_wish_that_was_not_met_is_told_again_but_not_at_once(edge, folder):
    write(folder, manifest())
    async with edge.running():
        await edge.until(lambda: wishes(edge))
        await edge.until(lambda: edge.runtime.sandboxes)
        assert len(wishes(edge)) == 1
        edge.clock.now_s += ASK_AGAIN_S
        await edge.until(lambda: len(wishes(edge)) == 2)


async def test_a_restarted_agent_adopts_its_static_pods(edge, folder):
    write(folder, manifest())
    async with edge.running():
        await edge.until(lambda: wishes(edge))
        await stand(edge, wishes(edge)[0])
        await edge.until(lambda: edge.phase(NAME) == "Running")
    calls = list(edge.runtime.calls)
    async with edge.running():
        await edge.until(lambda: edge.runtime.sandboxes)
        edge.store.reports.clear()
        write(folder, manifest("other"), "other.json")
        await edge.until(lambda: wishes(edge))
    assert edge.runtime.calls[: len(calls)] == calls
    assert [c for c in edge.runtime.calls[len(calls) :] if c[0] == "stop_container"] == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not YAML"),
        ("a: 1", "is not a Pod of apiVersion v1"),
        (yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {}}), "name"),
        (yaml.safe_dump(manifest(containers=[])), "spec.containers"),
        ("#" * (MAX_FILE_BYTES + 1), "is larger than"),
    ],
)
def test_a_file_that_is_no_pod_is_named_once_and_leaves_what_it_was(
    folder, caplog, content, problem
):
    write(folder, manifest())
    pods = StaticFolder(folder, "edge-1")
    ((key, _),) = pods.scan().items()
    (folder / "web.yaml").write_text(content)
    assert pods.scan() == {}
    assert pods.scan() == {}
    assert list(pods.pods) == [key]
    (said,) = [r.getMessage() for r in caplog.records]
    assert "web.yaml" in said
    assert problem in said


def test_hidden_files_are_not_read_and_a_missing_folder_holds_nothing(folder):
    pods = StaticFolder(folder, "edge-1")
    assert pods.scan() == {}
    write(folder, manifest(), ".web.yaml.swp")
    assert pods.scan() == {}
