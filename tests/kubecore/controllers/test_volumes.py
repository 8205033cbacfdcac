"""Claims and volumes against the real store: who gets what, what waits and why, and what is protected."""

from __future__ import annotations

import asyncio

import pytest

from kubecore.controllers.scheduler import Scheduler
from kubecore.controllers.volumebinder import VolumeBinder
from kubecore.errors import ApiStatusError
from tests.kubecore.controllers.test_controllers import bound, cluster, condition

RWO, ROX = "ReadWriteOnce", "ReadOnlyMany"


def volume(name, size="1Gi", modes=(RWO,), labels=None, **spec):
    spec = {"capacity": {"storage": size}, "accessModes": list(modes), **spec}
    if not spec.keys() & {"local", "nfs"}:
        spec.setdefault("hostPath", {"path": f"/data/{name}"})
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def on_node(name):
    expression = {"key": "metadata.name", "operator": "In", "values": [name]}
    return {"required": {"nodeSelectorTerms": [{"matchFields": [expression]}]}}


def local(name, node, **spec):
    spec |= {"local": {"path": f"/disks/{name}"}, "nodeAffinity": on_node(node)}
    return volume(name, **spec)


def claim(name="data", size="1Gi", modes=(RWO,), **spec):
    spec = {"accessModes": list(modes), "resources": {"requests": {"storage": size}}, **spec}
    return {"metadata": {"name": name}, "spec": spec}


def mounting(name="data"):
    return {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]}


class Storage:
    """A cluster, with short words for volumes and claims."""

    def __init__(self, kube):
        self.kube, self.objects = kube, kube.objects

    async def add(self, *objects):
        for obj in objects:
            claims = "resources" in obj.get("spec", {})
            plural = "persistentvolumeclaims" if claims else "persistentvolumes"
            kind = self.kube.kind(plural)
            await self.objects.create(kind, "default" if claims else "", obj)

    async def add_class(self, name, mode="WaitForFirstConsumer", *, default=False):
        marks = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
        body = {"metadata": {"name": name, "annotations": marks}, "volumeBindingMode": mode}
        body["provisioner"] = "kubernetes.io/no-provisioner"
        kind = self.kube.kind("storageclasses", "storage.k8s.io")
        await self.objects.create(kind, "", body)

    async def claim_in(self, phase, name="data"):
        holds = lambda c: c.get("status", {}).get("phase") == phase  # noqa: E731
        return await self.kube.until("persistentvolumeclaims", "default", name, holds)

    async def volume_in(self, phase, name):
        holds = lambda v: v.get("status", {}).get("phase") == phase  # noqa: E731
        return await self.kube.until("persistentvolumes", "", name, holds)

    async def said(self, reason):
        while True:
            for found, message in await self.kube.events():
                if found == reason:
                    return message
            await asyncio.sleep(0.01)

    async def delete(self, plural, name):
        namespace = "default" if plural == "persistentvolumeclaims" else ""
        await self.objects.delete(self.kube.kind(plural), namespace, name)

    async def names(self, plural):
        return {o["metadata"]["name"] for o in (await self.objects.list(self.kube.kind(plural)))[0]}


@pytest.fixture
async def storage(tmp_path):
    async with cluster(tmp_path, VolumeBinder, Scheduler) as kube:
        yield Storage(kube)


async def test_a_claim_gets_the_smallest_volume_that_fits_and_both_say_so(storage):
    await storage.add(
        volume("small", "500Mi"),
        volume("large", "10Gi"),
        volume("right", "2Gi"),
        volume("other-class", "1Gi", storageClassName="fast"),
        volume("other-mode", "1Gi", modes=[ROX]),
        volume("block", "1Gi", volumeMode="Block"),
    )
    await storage.add(claim())
    made = await storage.claim_in("Bound")
    assert made["spec"]["volumeName"] == "right"
    assert made["status"]["capacity"] == {"storage": "2Gi"}
    assert made["status"]["accessModes"] == [RWO]
    assert made["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] == "yes"
    taken = await storage.volume_in("Bound", "right")
    reference = taken["spec"]["claimRef"]
    assert (reference["name"], reference["uid"]) == ("data", made["metadata"]["uid"])
    for name in ("small", "large", "other-class"):
        await storage.volume_in("Available", name)


async def test_a_claim_that_fits_nothing_says_why_and_is_bound_when_a_volume_comes(storage):
    await storage.add(claim())
    assert await storage.said("FailedBinding") == (
        "no persistent volumes available for this claim and no storage class is set"
    )
    await storage.add(volume("late"))
    assert (await storage.claim_in("Bound"))["spec"]["volumeName"] == "late"


async def test_a_selector_a_name_and_a_reservation_are_kept_to(storage):
    reserved = volume("reserved", claimRef={"namespace": "default", "name": "mine"})
    await storage.add(
        volume("plain"), volume("ssd", "5Gi", labels={"disk": "ssd"}), volume("named", "9Gi")
    )
    await storage.add(reserved)
    await storage.add(
        claim("picky", selector={"matchLabels": {"disk": "ssd"}}),
        claim("exact", volumeName="named"),
        claim("mine"),
    )
    wanted = {"picky": "ssd", "exact": "named", "mine": "reserved"}
    for name, expected in wanted.items():
        assert (await storage.claim_in("Bound", name))["spec"]["volumeName"] == expected


async def test_two_claims_never_get_one_volume(storage):
    await storage.add(volume("only"))
    await storage.add(*(claim(f"c-{n}") for n in range(5)))
    while True:
        found, _ = await storage.objects.list(storage.kube.kind("persistentvolumeclaims"))
        phases = sorted(c.get("status", {}).get("phase", "") for c in found)
        if phases == ["Bound", *["Pending"] * 4]:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert sum(bool(c["spec"].get("volumeName")) for c in found) == 1


async def test_a_volume_whose_claim_is_gone_is_released_and_kept(storage):
    await storage.add(volume("kept"), claim())
    await storage.claim_in("Bound")
    await storage.delete("persistentvolumeclaims", "data")
    released = await storage.volume_in("Released", "kept")
    assert released["spec"]["claimRef"]["name"] == "data"
    await storage.add(claim())  # of the same name, and yet another claim
    await storage.said("FailedBinding")
    await storage.objects.patch(
        storage.kube.kind("persistentvolumes"), "", "kept", {"spec": {"claimRef": None}}
    )
    await storage.claim_in("Bound")


async def test_what_a_policy_asks_and_nobody_can_do_is_said(storage):
    await storage.add(volume("doomed", persistentVolumeReclaimPolicy="Delete"), claim())
    await storage.claim_in("Bound")
    await storage.delete("persistentvolumeclaims", "data")
    await storage.volume_in("Failed", "doomed")
    assert await storage.said("VolumeFailedDelete") == (
        'error getting deleter volume plugin for volume "doomed": no deletable volume plugin matched'
    )


async def test_a_claim_in_use_and_a_bound_volume_are_protected(storage):
    await storage.kube.add_node()
    await storage.add(volume("disk"), claim())
    await storage.claim_in("Bound")
    await storage.kube.add_pod(**mounting())
    await storage.kube.until("pods", "default", "web", bound)
    await storage.delete("persistentvolumes", "disk")
    await storage.delete("persistentvolumeclaims", "data")
    await asyncio.sleep(0.2)
    assert await storage.names("persistentvolumeclaims") == {"data"}
    assert await storage.names("persistentvolumes") == {"disk"}
    pods = storage.kube.kind("pods")
    await storage.objects.delete(pods, "default", "web", grace_period_s=0)
    while await storage.names("persistentvolumeclaims") | await storage.names("persistentvolumes"):
        await asyncio.sleep(0.01)


async def test_a_claim_whose_volume_vanished_is_lost(storage):
    await storage.add(volume("disk"), claim())
    await storage.claim_in("Bound")
    kind = storage.kube.kind("persistentvolumes")
    await storage.objects.delete(kind, "", "disk")
    finalizers = {"metadata": {"finalizers": None}}
    await storage.objects.patch(kind, "", "disk", finalizers)
    await storage.claim_in("Lost")
    assert await storage.said("ClaimLost") == (
        'Bound claim has lost its PersistentVolume "disk". Data on the volume is lost!'
    )


async def test_pods_go_where_their_volumes_are(storage):
    for node in ("edge-1", "edge-2"):
        await storage.kube.add_node(node)
    await storage.add(local("disk", "edge-2"), claim())
    await storage.claim_in("Bound")
    await storage.kube.add_pod(**mounting())
    pod = await storage.kube.until("pods", "default", "web", bound)
    assert pod["spec"]["nodeName"] == "edge-2"


async def test_a_claim_that_waits_for_its_consumer_gets_a_volume_of_the_consumers_node(storage):
    for node in ("edge-1", "edge-2"):
        await storage.kube.add_node(node)
    await storage.add_class("local")
    await storage.add(
        *(local(f"on-{n}", n, storageClassName="local") for n in ("edge-1", "edge-2")),
        claim(storageClassName="local"),
    )
    assert await storage.said("WaitForFirstConsumer")
    await storage.kube.add_pod(nodeSelector=None, affinity=prefers("edge-2"), **mounting())
    made = await storage.claim_in("Bound")
    assert made["spec"]["volumeName"] == "on-edge-2"


def prefers(node):
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"nodeAffinity": required}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (None, 'persistentvolumeclaim "data" not found'),
        (claim(), "pod has unbound immediate PersistentVolumeClaims"),
    ],
)
async def test_a_pod_whose_claim_is_not_ready_waits_and_says_so(storage, make, reason):
    await storage.kube.add_node()
    if make:
        await storage.add(make)
    await storage.kube.add_pod(**mounting())
    waiting = await storage.kube.until(
        "pods", "default", "web", lambda p: condition(p, "PodScheduled").get("status") == "False"
    )
    text = f"0/1 nodes are available: {reason}."
    assert condition(waiting, "PodScheduled")["message"] == text
    await storage.add(volume("disk"))
    if make is None:
        await storage.add(claim())
    await storage.kube.until("pods", "default", "web", bound)


async def test_a_claim_for_one_pod_only_is_given_to_one_pod(storage):
    await storage.kube.add_node()
    mode = ["ReadWriteOncePod"]
    await storage.add(volume("disk", modes=mode), claim(modes=mode))
    await storage.claim_in("Bound")
    await storage.kube.add_pod("a-first", **mounting())
    await storage.kube.until("pods", "default", "a-first", bound)
    await storage.kube.add_pod("b-second", **mounting())
    waiting = await storage.kube.until(
        "pods", "default", "b-second", lambda p: condition(p, "PodScheduled").get("message")
    )
    assert "ReadWriteOncePod access mode" in condition(waiting, "PodScheduled")["message"]
    pods = storage.kube.kind("pods")
    await storage.objects.delete(pods, "default", "a-first", grace_period_s=0)
    await storage.kube.until("pods", "default", "b-second", bound)


async def test_a_claim_without_a_class_takes_the_default_one(storage):
    await storage.add_class("usual", "Immediate", default=True)
    await storage.add(volume("plain"), volume("disk", storageClassName="usual"), claim())
    made = await storage.claim_in("Bound")
    assert made["spec"]["volumeName"] in ("plain", "disk")
    await storage.add(claim("second", size="1Gi", storageClassName=""))
    await storage.add(volume("third"))
    assert (await storage.claim_in("Bound", "second"))["spec"]["volumeName"] in ("plain", "third")


async def test_an_ephemeral_volume_gets_a_claim_that_goes_with_its_pod(tmp_path):
    async with cluster(tmp_path, VolumeBinder, Scheduler) as kube:
        storage = Storage(kube)
        await kube.add_node()
        await storage.add(volume("disk"))
        template = {"metadata": {"labels": {"a": "b"}}, "spec": claim()["spec"]}
        ephemeral = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}
        pod = await kube.add_pod(volumes=[ephemeral])
        while "web-scratch" not in await storage.names("persistentvolumeclaims"):
            await asyncio.sleep(0.01)
        made = await storage.claim_in("Bound", "web-scratch")
        (owner,) = made["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (pod["metadata"]["uid"], True)
        assert made["metadata"]["labels"] == {"a": "b"}
        assert await kube.until("pods", "default", "web", bound)


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (volume("v", modes=[]), "spec.accessModes: Required value"),
        (volume("v", modes=["Sometimes"]), "spec.accessModes: Unsupported value"),
        (volume("v", "0"), "must be greater than zero"),
        (volume("v", nfs={"server": "s", "path": "/"}, hostPath={"path": "/x"}), "more than 1"),
        (volume("v", hostPath={"path": "/a/../etc"}), "must not contain '..'"),
        (volume("v", local={"path": "/x"}), "Local volume requires node affinity"),
        (volume("v", persistentVolumeReclaimPolicy="Burn"), "Unsupported value"),
        (claim(modes=[]), "at least 1 access mode is required"),
        (claim(resources={}), "spec.resources[storage]: Required value"),
    ],
)
async def test_what_no_volume_or_claim_can_be_is_refused(storage, obj, message):
    with pytest.raises(ApiStatusError) as caught:
        await storage.add(obj)
    assert message in str(caught.value)


async def test_a_bound_claim_cannot_be_pointed_elsewhere(storage):
    await storage.add(volume("disk"), claim())
    await storage.claim_in("Bound")
    kind = storage.kube.kind("persistentvolumeclaims")
    for change in ({"volumeName": "other"}, {"accessModes": [ROX]}):
        with pytest.raises(ApiStatusError, match="spec is immutable after creation"):
            await storage.objects.patch(kind, "default", "data", {"spec": change})
    patch = {"spec": {"hostPath": {"path": "/elsewhere"}}}
    with pytest.raises(ApiStatusError, match="immutable after creation"):
        await storage.objects.patch(storage.kube.kind("persistentvolumes"), "", "disk", patch)
