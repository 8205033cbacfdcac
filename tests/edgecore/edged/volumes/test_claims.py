"""Which volume a claim stands for, and kubelet's sentence for each reason why it stands for none."""

from __future__ import annotations

import json

import pytest

from edgecore.edged.volumes.claims import Held, resolve
from edgecore.edged.volumes.errors import VolumeError
from synccore.messages import ObjectKey
from tests.fakes.pods import make_pod

CLAIM = ObjectKey("PersistentVolumeClaim", "default", "data")
VOLUME = ObjectKey("PersistentVolume", "", "disk")
BOUND = {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
HOST = {"kubernetes.io/hostname": "edge-1"}


def node_affinity(operator, *values, key="kubernetes.io/hostname"):
    expression = {"key": key, "operator": operator, "values": list(values)}
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}


def claim(metadata=BOUND, **spec):
    return {"metadata": metadata, "spec": {"volumeName": "disk", **spec}}


def volume(**spec):
    return {"spec": {"claimRef": {"uid": "c-1"}, "local": {"path": "/disks/1"}, **spec}}


def resolved(claim_body, volume_body, source=None, labels=HOST):
    source = source or {"persistentVolumeClaim": {"claimName": "data"}}
    pod = make_pod(volumes=[{"name": "v", **source}])
    bodies = {CLAIM: ("c-1", claim_body), VOLUME: ("v-1", volume_body)}

    def find(key):
        uid, body = bodies.get(key, ("", None))
        return None if body is None else Held(uid, json.dumps(body).encode())

    return resolve(pod, pod.spec.volumes[0], find, labels)


def test_a_bound_claim_is_the_path_of_its_volume():
    found = resolved(claim(), volume(nodeAffinity=node_affinity("In", "edge-1")))
    assert (found.volume, found.host_path.path) == ("disk", "/disks/1")
    assert (found.managed, found.read_only) == (True, False)


def test_a_read_only_claim_is_read_only_and_its_files_stay_as_they_are():
    source = {"persistentVolumeClaim": {"claimName": "data", "readOnly": True}}
    found = resolved(claim(), volume(), source)
    assert (found.managed, found.read_only) == (False, True)


def test_a_host_path_volume_keeps_its_type_and_no_group_is_given_to_it():
    place = {"path": "/data", "type": "DirectoryOrCreate"}
    found = resolved(claim(), volume(local=None, hostPath=place))
    assert (found.host_path.type, found.managed) == ("DirectoryOrCreate", False)


@pytest.mark.parametrize(
    ("claim_body", "volume_body", "problem"),
    [
        (None, None, 'failed to fetch PVC from API server: persistentvolumeclaims "data" not found'),
        (claim(volumeName=""), volume(), "PVC is not bound"),
        (claim(metadata={}), volume(), "PVC is not bound"),
        (claim(), None, 'failed to fetch PV disk from API server: persistentvolumes "disk" not found'),
        (claim(), volume(claimRef={"uid": "another"}), "PV disk is bound to another PVC"),
        (claim(), volume(claimRef=None), "PV disk is bound to another PVC"),
        (claim(volumeMode="Block"), volume(), "volumeMode Block"),
    ],
)  # fmt: skip
def test_a_claim_that_is_not_ready_waits_with_kubelets_words(claim_body, volume_body, problem):
    with pytest.raises(VolumeError) as caught:
        resolved(claim_body, volume_body)
    assert caught.value.message.startswith("Unable to attach or mount volumes: ")
    assert f"error processing PVC default/data: {problem}" in caught.value.message or (
        problem in caught.value.message
    )


@pytest.mark.parametrize("kind", ["nfs", "csi", "iscsi", "fc"])
def test_a_volume_of_another_type_is_refused_by_name(kind):
    with pytest.raises(VolumeError, match=f"type {kind} is not served by this node"):
        resolved(claim(), volume(local=None, **{kind: {}}))


@pytest.mark.parametrize(
    ("affinity", "fits"),
    [
        (node_affinity("In", "edge-1", "edge-2"), True),
        (node_affinity("In", "edge-2"), False),
        (node_affinity("NotIn", "edge-1"), False),
        (node_affinity("DoesNotExist"), False),
        (node_affinity("Exists"), True),
        (node_affinity("In", "x", key="only/the-cluster-knows"), True),
    ],
)
def test_a_volume_of_another_node_is_refused(affinity, fits):
    if fits:
        assert resolved(claim(), volume(nodeAffinity=affinity))
        return
    with pytest.raises(VolumeError, match="NodeAffinity check failed"):
        resolved(claim(), volume(nodeAffinity=affinity))


def test_an_ephemeral_claim_must_have_been_made_for_the_pod():
    source = {"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}
    pod = make_pod(volumes=[{"name": "v", **source}])
    key = ObjectKey("PersistentVolumeClaim", "default", "web-v")
    owner = {"ownerReferences": [{"uid": "u-1", "controller": True}]}
    bodies = {VOLUME: Held("v-1", json.dumps(volume()).encode())}
    for metadata, good in ((BOUND | owner, True), (BOUND, False)):
        bodies[key] = Held("c-1", json.dumps(claim(metadata)).encode())
        if good:
            assert resolve(pod, pod.spec.volumes[0], bodies.get, HOST).volume == "disk"
        else:
            with pytest.raises(VolumeError, match='PVC "web-v" was not created for pod web'):
                resolve(pod, pod.spec.volumes[0], bodies.get, HOST)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"spec":7}', b'{"spec":{"volumeName":{}}}'])
def test_objects_that_do_not_decode_are_a_refusal_and_no_crash(body):
    pod = make_pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}])
    with pytest.raises(VolumeError):
        resolve(pod, pod.spec.volumes[0], {CLAIM: Held("c-1", body)}.get, HOST)
