"""No volume is ignored: a type that is not served is refused by name, with kubelet's words."""

from __future__ import annotations

import json

import pytest

from edgecore.edged.spec.podspec import decode_pod
from edgecore.edged.volumes.refusals import refused_volume
from tests.fakes.pods import pod_object

# core/v1 VolumeSource, all members but those that are served.
OTHERS = (
    *("awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "csi", "fc"),
    *("flexVolume", "flocker", "gcePersistentDisk", "gitRepo", "glusterfs", "image", "iscsi"),
    *("nfs", "photonPersistentDisk", "portworxVolume", "quobyte", "rbd", "scaleIO"),
    *("storageos", "vsphereVolume"),
)


def refusal(volume):
    body = json.dumps(pod_object(volumes=[{"name": "v", **volume}])).encode()
    found = refused_volume(decode_pod(body)[1])
    return found and found.message


@pytest.mark.parametrize("kind", OTHERS)
def test_every_other_type_of_volume_is_refused_by_its_name(kind):
    assert refusal({kind: {"x": "y"}}) == (
        "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process "
        'volumes=[v]: failed to get Plugin from volumeSpec for volume "v" err=no volume plugin matched: '
        f"type {kind} is not served by this node"
    )


@pytest.mark.parametrize(
    ("volume", "problem"),
    [
        ({"emptyDir": {}}, None),
        ({"persistentVolumeClaim": {"claimName": "c"}}, None),
        ({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}, None),
        ({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}, None),
        ({}, "the volume names no type"),
        ({"emptyDir": {"medium": "HugePages"}}, "emptyDir medium HugePages is not served"),
        ({"emptyDir": {"medium": "HugePages-2Mi"}}, "medium HugePages-2Mi is not served"),
        (
            {"projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}},
            "projected source clusterTrustBundle is not served",
        ),
    ],
)
def test_what_a_served_type_cannot_do_is_refused_too(volume, problem):
    message = refusal(volume)
    assert problem is None if message is None else problem in message
