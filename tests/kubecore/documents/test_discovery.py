import pytest

from kubecore.documents import discovery
from kubecore.documents.openapi import v3_document, v3_index
from kubecore.kinds.registry import Registry
from tests.kubecore.samples import device_crd


@pytest.fixture
def registry():
    made = Registry()
    made.install_crd(device_crd())
    return made


def test_versions_are_ordered_as_clients_should_prefer_them():
    versions = ["v1alpha1", "v10", "foo", "v1beta2", "v2", "v1beta10", "v1", "v2alpha1"]
    ordered = sorted(versions, key=discovery.version_rank)
    assert ordered == ["v10", "v2", "v1", "v1beta10", "v1beta2", "v2alpha1", "v1alpha1", "foo"]


@pytest.mark.parametrize("version", ["v2", "v2beta1"])
def test_the_aggregated_documents_name_every_resource(registry, version):
    core = discovery.aggregated(registry, version, core=True)
    rest = discovery.aggregated(registry, version, core=False)
    assert core["apiVersion"] == f"apidiscovery.k8s.io/{version}"
    pods = next(r for r in core["items"][0]["versions"][0]["resources"] if r["resource"] == "pods")
    assert pods["shortNames"] == ["po"]
    assert [s["subresource"] for s in pods["subresources"]] == [
        "attach",
        "binding",
        "ephemeralcontainers",
        "eviction",
        "exec",
        "log",
        "portforward",
        "proxy",
        "status",
    ]
    named = {
        f"{r['resource']}.{g['metadata'].get('name', '')}"
        for document in (core, rest)
        for g in document["items"]
        for v in g["versions"]
        for r in v["resources"]
    }
    assert {"devices.devices.kubeedge.io", "leases.coordination.k8s.io", "pods."} <= named
    assert "deployments.apps" not in named
    assert f"v={version};as=APIGroupDiscoveryList" in discovery.aggregated_content_type(version)


def test_the_legacy_documents_say_the_same(registry):
    assert discovery.api_versions(registry)["versions"] == ["v1"]
    groups = {g["name"]: g for g in discovery.api_group_list(registry)["groups"]}
    preferred = groups["devices.kubeedge.io"]["preferredVersion"]["groupVersion"]
    assert preferred == "devices.kubeedge.io/v1beta1"
    found = discovery.api_resource_list(registry, "devices.kubeedge.io", "v1beta1")
    assert [r["name"] for r in found["resources"]] == ["devices", "devices/status"]
    assert discovery.api_resource_list(registry, "apps", "v1") is None
    assert discovery.api_group(registry, "apps") is None
    assert discovery.api_group(registry, "devices.kubeedge.io")["kind"] == "APIGroup"


def references(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value.rpartition("/")[2]
            else:
                yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def test_every_openapi_document_is_complete(registry):
    for path in v3_index(registry)["paths"]:
        document = v3_document(registry, path)
        schemas = document["components"]["schemas"]
        assert set(references(document)) <= schemas.keys(), path


def test_kubectl_finds_field_validation_and_the_kind_of_every_patch(registry):
    document = v3_document(registry, "apis/devices.kubeedge.io/v1beta1")
    one = document["paths"][
        "/apis/devices.kubeedge.io/v1beta1/namespaces/{namespace}/devices/{name}"
    ]
    patch = one["patch"]
    kind = {"group": "devices.kubeedge.io", "version": "v1beta1", "kind": "Device"}
    assert patch["x-kubernetes-group-version-kind"] == kind
    assert "fieldValidation" in [p["name"] for p in patch["parameters"]]
    schema = document["components"]["schemas"]["io.kubeedge.devices.v1beta1.Device"]
    assert schema["x-kubernetes-group-version-kind"] == [kind]
    assert {"apiVersion", "kind", "metadata", "spec"} <= schema["properties"].keys()


def test_a_hash_changes_with_the_content_of_its_document_only(registry):
    before = v3_index(registry)["paths"]
    crd = device_crd()
    crd["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": {"type": "object"}}
    registry.install_crd(crd)
    after = v3_index(registry)["paths"]
    changed = {path for path in after if after[path] != before[path]}
    assert changed == {"apis/devices.kubeedge.io/v1beta1"}
    registry.remove_crd("devices.devices.kubeedge.io")
    assert v3_document(registry, "apis/devices.kubeedge.io/v1beta1") is None
