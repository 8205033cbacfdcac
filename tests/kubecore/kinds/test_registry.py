import copy

import pytest

from kubecore.kinds.crds import crd_status
from kubecore.kinds.registry import Registry
from kubecore.values.invalid import InvalidObjectError
from tests.kubecore.samples import device_crd


@pytest.fixture
def registry():
    return Registry()


def test_an_installed_crd_is_served_in_every_served_version(registry):
    crd = device_crd()
    old = {**copy.deepcopy(crd["spec"]["versions"][0]), "name": "v1alpha2", "storage": False}
    gone = {**old, "name": "v1alpha1", "served": False}
    crd["spec"]["versions"] += [old, gone]
    registry.install_crd(crd)
    newest = registry.find("devices.kubeedge.io", "v1beta1", "devices")
    older = registry.find("devices.kubeedge.io", "v1alpha2", "devices")
    assert newest.storage_name == older.storage_name == "devices.devices.kubeedge.io"
    assert registry.find("devices.kubeedge.io", "v1alpha1", "devices") is None
    assert registry.kind("devices.kubeedge.io/v1beta1", "Device") is newest
    assert (newest.short_names, newest.categories, newest.has_status) == (("dev",), ("all",), True)


def test_every_change_of_the_crds_changes_the_revision(registry):
    seen = [registry.revision]
    registry.install_crd(device_crd())
    seen.append(registry.revision)
    registry.install_crd(device_crd())
    seen.append(registry.revision)
    registry.remove_crd("devices.devices.kubeedge.io")
    seen.append(registry.revision)
    registry.remove_crd("devices.devices.kubeedge.io")
    assert len(set(seen)) == 4
    assert registry.revision == seen[-1]
    assert registry.find("devices.kubeedge.io", "v1beta1", "devices") is None


def spec_change(**changes):
    def change(crd):
        crd["spec"].update(changes)

    return change


def version_change(**changes):
    def change(crd):
        crd["spec"]["versions"][0].update(changes)

    return change


def schema_change(schema):
    return version_change(schema={"openAPIV3Schema": schema})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            spec_change(group="other.io"),
            'metadata.name: Invalid value: "devices.devices.kubeedge.io"',
        ),
        (spec_change(scope="Everywhere"), 'spec.scope: Unsupported value: "Everywhere"'),
        (spec_change(group="coordination.k8s.io"), "is a group of built-in kinds"),
        (spec_change(conversion={"strategy": "Webhook"}), 'Unsupported value: "Webhook"'),
        (version_change(storage=False), "must have exactly one version marked as storage version"),
        (version_change(name="V1"), "spec.versions[0].name: Invalid value"),
        (version_change(schema=None), "schemas are required"),
        (schema_change({"type": "array"}), "must be object at the root"),
        (
            schema_change({"type": "object", "properties": {"a": {}}}),
            "properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            schema_change({"type": "object", "properties": {"a": {"type": "text"}}}),
            'Unsupported value: "text"',
        ),
        (
            schema_change({"type": "object", "properties": {"a": {"type": "array"}}}),
            "properties[a].items: Required value",
        ),
        (
            schema_change(
                {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}
            ),
            "must be a valid regular expression",
        ),
        (
            version_change(
                additionalPrinterColumns=[{"name": "A", "type": "string", "jsonPath": "x"}]
            ),
            "must be a simple json path starting with a dot",
        ),
        (
            version_change(
                additionalPrinterColumns=[{"name": "A", "type": "string", "jsonPath": ".a[?"}]
            ),
            "not understood from",
        ),
    ],
)
def test_a_crd_that_cannot_be_served_is_refused_and_says_why(registry, change, text):
    crd = device_crd()
    change(crd)
    with pytest.raises(InvalidObjectError) as caught:
        registry.install_crd(crd)
    assert text in str(caught.value)
    assert registry.crds() == []


def test_a_crd_may_not_take_the_names_of_another(registry):
    registry.install_crd(device_crd())
    rival = device_crd(plural="gadgets")
    with pytest.raises(InvalidObjectError, match='"device" is already in use'):
        registry.install_crd(rival)
    status = crd_status(rival, registry.crds(), 0)
    assert [c["status"] for c in status["conditions"]] == ["False", "False"]


def test_the_status_of_a_crd_says_that_it_is_served_and_keeps_its_times():
    crd = device_crd()
    crd["status"] = crd_status(crd, [], 0)
    assert {c["type"]: c["status"] for c in crd["status"]["conditions"]} == {
        "NamesAccepted": "True",
        "Established": "True",
    }
    assert crd["status"]["storedVersions"] == ["v1beta1"]
    assert crd["status"]["acceptedNames"]["listKind"] == "DeviceList"
    assert crd_status(crd, [], 1000) == crd["status"]
