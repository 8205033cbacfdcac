"""Bad input gets a clear answer, and everything else goes on."""

from __future__ import annotations

import pytest

from tests.e2e.cluster import IMAGE, pod, wait_until

DEVICES = "devices.kubeedge.io/v1beta1"


@pytest.fixture
def pods(kubectl):
    """Apply pods; they are deleted with the test."""
    names = []

    def apply(*objects):
        names.extend(obj["metadata"]["name"] for obj in objects)
        kubectl.apply(*objects)

    yield apply
    kubectl.delete("pod", *names)


def device(name, **spec):
    return {
        "apiVersion": DEVICES,
        "kind": "Device",
        "metadata": {"name": name},
        "spec": {"deviceModelRef": {"name": "nowhere"}, "nodeName": "edge-1", **spec},
    }


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        pytest.param(
            "apiVersion: devices.kubeedge.io/v9\nkind: Device\nmetadata: {name: x}\n",
            'no matches for kind "Device" in version "devices.kubeedge.io/v9"',
            id="unknown-apiversion",
        ),
        pytest.param("a: [\n", "error converting YAML", id="malformed-yaml"),
        pytest.param(
            f"apiVersion: {DEVICES}\nkind: Device\nmetadata: {{name: x}}\nspec: {{nodeName: 7}}\n",
            "spec.nodeName",
            id="number-for-a-string",
        ),
        pytest.param(
            f"apiVersion: {DEVICES}\nkind: Device\nmetadata: {{name: x}}\n"
            "spec: {nodeName: edge-1, properties: all}\n",
            "spec.properties",
            id="string-for-a-list",
        ),
        pytest.param(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: none}\n",
            "containers",
            id="string-for-containers",
        ),
        pytest.param(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: Not_A_Name}\n"
            f"spec: {{containers: [{{name: c, image: {IMAGE}}}]}}\n",
            "metadata.name",
            id="bad-name",
        ),
    ],
)
def test_a_wrong_manifest_is_refused_and_says_where(kubectl, manifest, words):
    done = kubectl.run("apply", "-f", "-", stdin=manifest)
    assert done.returncode != 0
    assert words in done.stderr


def test_a_device_without_its_model_says_so_and_converges_when_it_appears(kubectl, lamp_objects):
    model, lamp = lamp_objects("lamp-03")
    model["metadata"]["name"] = lamp["spec"]["deviceModelRef"]["name"] = "late-model"
    kubectl.apply(lamp)
    try:
        wait_until("it says so", lambda: "late-model" in _problems(kubectl, "lamp-03"), 20)
        kubectl.apply(model)
        wait_until("it converges", lambda: "late-model" not in _problems(kubectl, "lamp-03"), 20)
    finally:
        kubectl("delete", "device/lamp-03", "devicemodel/late-model", "--ignore-not-found")


def test_a_device_on_a_missing_node_says_so(kubectl, lamp_objects):
    _, lamp = lamp_objects("lamp-04")
    lamp["spec"]["nodeName"] = "edge-99"
    kubectl.apply(lamp)
    try:
        wait_until("it says so", lambda: "edge-99" in _problems(kubectl, "lamp-04"), 20)
    finally:
        kubectl("delete", "device/lamp-04", "--ignore-not-found")


def _problems(kubectl, name):
    """Return reasons and messages of the conditions that are not True."""
    conditions = (kubectl.get("device", name).get("status") or {}).get("conditions") or []
    return " ".join(f"{c['reason']} {c['message']}" for c in conditions if c["status"] != "True")


@pytest.mark.parametrize(
    ("policy", "reasons"),
    [("Always", {"ErrImagePull", "ImagePullBackOff"}), ("Never", {"ErrImageNeverPull"})],
)
def test_a_missing_image_is_named_as_kubernetes_names_it(kubectl, pods, runtime, policy, reasons):
    if runtime == "process":
        pytest.skip("plain processes have no images")
    name = f"no-image-{policy.lower()}"
    image = {"image": "registry.invalid/none:1", "imagePullPolicy": policy}
    pods(pod(name, "true", container=image))

    def waiting():
        return kubectl.container(name).get("state", {}).get("waiting", {}).get("reason")

    wait_until(f"one of {reasons}", lambda: waiting() in reasons, 40)
    assert kubectl.pod_phase(name) == "Pending"


def test_a_command_that_does_not_exist_fails_the_container_and_names_it(kubectl, pods):
    pods(pod("no-command", "", container={"command": ["/no/such/program"]}))

    def told():
        state = kubectl.container("no-command").get("state", {})
        return "/no/such/program" in str(state.get("waiting") or state.get("terminated"))

    wait_until("the container's state names the program", told, 30)


def test_the_node_is_still_ready_after_all_that(kubectl):
    assert kubectl.node_ready("edge-1") == "True"
