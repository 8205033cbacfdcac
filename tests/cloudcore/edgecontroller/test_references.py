from __future__ import annotations

import json

import msgspec
import pytest

from cloudcore.edgecontroller.references import (
    MASTER_SERVICE,
    has_address,
    place_device,
    place_pod,
    services_of,
)
from synccore.messages import ObjectKey

POD = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "nodeName": "edge-1",
        "imagePullSecrets": [{"name": "pull"}, {}],
        "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "init-env"}}]}],
        "containers": [
            {
                "name": "c",
                "env": [
                    {"name": "PLAIN", "value": "x"},
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "a"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "token", "key": "b"}}},
                    {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
                "envFrom": [{"secretRef": {"name": "all-env"}}],
            }
        ],
        "volumes": [
            {"name": "v1", "configMap": {"name": "files"}},
            {"name": "v2", "secret": {"secretName": "keys"}},
            {"name": "v3", "emptyDir": {}},
            {
                "name": "v4",
                "projected": {
                    "sources": [
                        {"configMap": {"name": "kube-root-ca.crt"}},
                        {"secret": {"name": "mixed"}},
                        {"serviceAccountToken": {"path": "token"}},
                    ]
                },
            },
        ],
    },
}


def test_a_pod_refers_to_all_its_config_maps_and_secrets_of_its_namespace():
    placement = place_pod(json.dumps(POD).encode())
    assert placement.node == "edge-1"
    maps = {"init-env", "env", "files", "kube-root-ca.crt"}
    secrets = {"pull", "token", "all-env", "keys", "mixed"}
    expected = {ObjectKey("ConfigMap", "shop", n) for n in maps}
    expected |= {ObjectKey("Secret", "shop", n) for n in secrets}
    expected |= {MASTER_SERVICE, services_of("shop")}
    assert placement.refers == expected


def test_a_pod_without_service_links_refers_to_the_api_server_and_its_runtime_class_alone():
    spec = {"nodeName": "n", "enableServiceLinks": False, "runtimeClassName": "gvisor"}
    pod = {"metadata": {"name": "a", "namespace": "shop"}, "spec": spec}
    found = place_pod(json.dumps(pod).encode()).refers
    assert found == {MASTER_SERVICE, ObjectKey("RuntimeClass", "", "gvisor")}


@pytest.mark.parametrize(
    ("spec", "addressed"),
    [
        ({"clusterIP": "10.96.0.7"}, True),
        ({"clusterIP": "fd00::7"}, True),
        ({"clusterIP": "None"}, False),
        ({"clusterIP": ""}, False),
        ({"type": "ExternalName", "externalName": "x.example"}, False),
        ({"clusterIP": None}, False),
    ],
)
def test_only_a_service_with_a_cluster_ip_has_an_address(spec, addressed):
    assert has_address(json.dumps({"metadata": {}, "spec": spec}).encode()) is addressed


def test_a_mirror_pod_belongs_to_its_node_and_gets_it_no_other_object():
    pod = POD | {"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}
    assert place_pod(json.dumps(pod).encode()) == ("edge-1", frozenset())


def test_an_unbound_pod_belongs_to_no_node():
    assert place_pod(b'{"metadata":{"name":"a"},"spec":{"containers":null}}').node is None


def test_a_device_refers_to_its_model_in_its_namespace():
    device = {
        "metadata": {"name": "lamp", "namespace": "shop"},
        "spec": {"nodeName": "edge-1", "deviceModelRef": {"name": "bulb"}},
    }
    placement = place_device(json.dumps(device).encode())
    assert placement == ("edge-1", {ObjectKey("DeviceModel", "shop", "bulb")})


@pytest.mark.parametrize("spec", [{"nodeName": 7}, {"deviceModelRef": "bulb"}, []])
def test_a_device_with_odd_types_is_refused(spec):
    with pytest.raises(msgspec.DecodeError):
        place_device(json.dumps({"metadata": {}, "spec": spec}).encode())
