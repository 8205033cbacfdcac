"""The conditions of a Device through the API: Accepted, Online and Synced, each reason; and `kubectl wait`."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import asynccontextmanager

import pytest

from cloudcore.devicecontroller.controller import DeviceController
from cloudcore.devicecontroller.mirror import StatusMirror, fingerprint
from cloudcore.edgecontroller.controller import nodes_informer
from cloudcore.kube.client import MERGE_PATCH
from cloudcore.kube.errors import KubeNotFoundError
from cloudcore.kube.informer import Informers
from cloudcore.kube.resources import DEVICE_MODELS, DEVICE_STATUSES, DEVICES
from cloudcore.settings import DeviceSettings
from devicemodels.manifests import crd_documents, sample_documents
from tests.fakes.waiting import eventually
from tests.integration.test_cloudcore_on_kubecore import (  # noqa: F401 - fixtures
    FAST,
    GROUP,
    admin,
    apply_rbac,
    cluster,
    create,
    report,
)

pytestmark = pytest.mark.timeout(120)
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
COLLECTION = f"/apis/{GROUP}/v1beta1/namespaces/default"
LAMP = f"{COLLECTION}/devices/lamp-01"


class Devices:
    """cloudcore's device controller on a real API, and what a node would report to it."""

    def __init__(self, admin, controller):  # noqa: F811
        self.admin, self.controller = admin, controller

    async def lamp(self):
        return json.loads(await self.admin.get(LAMP))

    async def patch(self, path, body):
        await self.admin.patch(path, json.dumps(body).encode(), content_type=MERGE_PATCH)

    async def spec(self, **changes):
        await self.patch(LAMP, {"spec": changes})

    async def desire(self, **values):
        properties = [{"name": n, "desired": {"value": v}} for n, v in values.items()]
        await self.spec(properties=properties)
        return (await self.lamp())["metadata"]["generation"]

    async def say(self, phase="Applied", *, generation=None, taken="true", **status):
        """Report as the node does."""
        lamp = await self.lamp()
        twin = {
            "propertyName": "power",
            "observedDesired": {"value": taken},
            "phase": phase,
            "reason": "Because",
        }
        generation = lamp["metadata"]["generation"] if generation is None else generation
        body = {"twins": [twin], "twinsGeneration": generation, "state": "online", **status}
        delta = report(
            "Device", "default", "lamp-01", {"status": body}, uid=lamp["metadata"]["uid"]
        )
        await self.controller.write("edge-1", delta)

    async def condition(self, kind, status, reason):
        """Wait until the API says so; return the condition."""
        found = {}

        async def there():
            held = (await self.lamp()).get("status", {}).get("conditions", [])
            found.update(next((c for c in held if c["type"] == kind), {}))
            return (found.get("status"), found.get("reason")) == (status, reason)

        await eventually(there)
        return found

    async def node(self, ready):
        """Have the node ready, or lost: the cluster taints it then."""
        condition = {"type": "Ready", "status": ready}
        await self.patch("/api/v1/nodes/edge-1/status", {"status": {"conditions": [condition]}})


@pytest.fixture
async def devices(cluster, admin):  # noqa: F811
    async with running(cluster, admin) as made:
        yield made


@asynccontextmanager
async def running(cluster, admin):  # noqa: F811
    await apply_rbac(admin)
    for document in crd_documents():
        await create(admin, CRDS, document)
    model, lamp = sample_documents()
    lamp["spec"]["nodeName"] = "edge-1"
    lamp["spec"]["properties"] = [{"name": "power"}]
    await create(admin, f"{COLLECTION}/devicemodels", model)
    await create(admin, "/api/v1/nodes", {"metadata": {"name": "edge-1"}})
    await create(admin, f"{COLLECTION}/devices", lamp)
    async with cluster.as_user("armadillo:cloudcore", "armadillo:cloudcore") as client:
        informers, settings = Informers(client, FAST), DeviceSettings(status_interval_s=0.05)
        of_devices = informers.of(DEVICES)
        controller = DeviceController(
            client,
            settings,
            devices=of_devices,
            models=informers.of(DEVICE_MODELS),
            nodes=nodes_informer(informers),
        )
        shrunk = informers.of(DEVICE_STATUSES, shrink=fingerprint)
        mirror = StatusMirror(client, settings, devices=of_devices, mirrors=shrunk)
        async with controller, mirror:
            tasks = [asyncio.create_task(part.run()) for part in (informers, controller, mirror)]
            try:
                yield Devices(admin, controller)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)


async def test_accepted_follows_device_model_and_node(devices):
    accepted = await devices.condition("Accepted", "True", "Accepted")
    assert accepted["observedGeneration"] == 1
    await devices.desire(power="maybe")
    wrong = await devices.condition("Accepted", "False", "InvalidDevice")
    assert "spec.properties[0].desired.value: property 'power': value 'maybe'" in wrong["message"]
    await devices.spec(properties=[], nodeName="edge-9")
    await devices.condition("Accepted", "False", "NodeNotFound")
    await devices.spec(nodeName="edge-1", deviceModelRef={"name": "none"})
    await devices.condition("Accepted", "False", "ModelNotFound")
    broken = {"name": "broken"}
    limits = {"name": "p", "type": "INT", "minimum": "1.5"}
    model = {"apiVersion": f"{GROUP}/v1beta1", "kind": "DeviceModel", "metadata": broken}
    await create(
        devices.admin, f"{COLLECTION}/devicemodels", {**model, "spec": {"properties": [limits]}}
    )
    await devices.spec(deviceModelRef=broken)
    assert "minimum" in (await devices.condition("Accepted", "False", "InvalidModel"))["message"]
    await devices.spec(deviceModelRef={"name": "lamp"})
    await devices.condition("Accepted", "True", "Accepted")


async def test_online_follows_the_device_and_its_node(devices):
    await devices.condition("Online", "Unknown", "NeverHeard")
    for state, status in (
        ("online", "True"),
        ("offline", "False"),
        ("ok", "True"),
        ("unknown", "Unknown"),
        ("unhealthy", "True"),
    ):
        await devices.say(state=state)
        await devices.condition("Online", status, state.capitalize())
    await devices.node("Unknown")
    lost = await devices.condition("Online", "Unknown", "NodeUnreachable")
    assert "was unhealthy when it was heard last" in lost["message"]
    await devices.node("True")
    await devices.condition("Online", "True", "Unhealthy")


async def test_synced_follows_what_became_of_each_value(devices):
    await devices.condition("Accepted", "True", "Accepted")
    generation = await devices.desire(power="true")
    await devices.condition("Synced", "False", "NotTaken")
    for phase, status in (
        ("Pending", "False"),
        ("Rejected", "False"),
        ("Expired", "False"),
        ("Applied", "True"),
        ("Drifted", "False"),
        ("Applied", "True"),
    ):
        await devices.say(phase, generation=generation)
        condition = await devices.condition("Synced", status, phase)
        assert phase == "Applied" or f"power: {phase}: Because" in condition["message"]
    assert await devices.desire(power="false") == generation + 1
    behind = await devices.condition("Synced", "False", "NotTaken")
    assert (behind["message"], behind["observedGeneration"]) == (
        "not taken by node edge-1 yet: power",
        generation + 1,
    )
    await devices.node("Unknown")
    lost = await devices.condition("Synced", "Unknown", "NodeUnreachable")
    assert lost["message"] == "node edge-1 is unreachable; it has not taken: power"
    await devices.node("True")
    await devices.say(taken="false")
    await devices.condition("Synced", "True", "Applied")


async def kubectl(cluster, *args):  # noqa: F811
    config = str(cluster.folder / "kubernetes-admin.kubeconfig")
    process = await asyncio.create_subprocess_exec(
        "kubectl", "--kubeconfig", config, *args, stdout=-1, stderr=asyncio.subprocess.STDOUT
    )
    return (await process.communicate())[0].decode().strip()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
async def test_kubectl_waits_for_a_device(cluster, devices):  # noqa: F811
    met = "device.devices.kubeedge.io/lamp-01 condition met"
    for condition, said in (
        ("Online", {}),
        ("Online=false", {"state": "offline"}),
        ("Synced", {}),
        ("Synced=false", {"phase": "Rejected"}),
    ):
        waiting = asyncio.create_task(
            kubectl(
                cluster, "wait", f"--for=condition={condition}", "device/lamp-01", "--timeout=60s"
            )
        )
        await devices.say(**said)
        assert await waiting == met
    table = await kubectl(
        cluster,
        "get",
        "devicestatus",
        "lamp-01",
    )
    assert table.splitlines()[0].split() == [
        "NAME",
        "STATE",
        "LAST",
        "ONLINE",
        "AGE",
    ]


async def test_a_status_object_beside_each_device_is_kept_and_goes_with_it(devices):
    path = f"{COLLECTION}/devicestatuses/lamp-01"
    twin = {"propertyName": "power", "reported": {"value": "true"}}

    async def mirrored():
        try:
            return json.loads(await devices.admin.get(path))
        except KubeNotFoundError:
            return None

    async def says():
        held = await mirrored()
        return held is not None and held["status"].get("state") == "online"

    lamp = await devices.lamp()
    await devices.say(twins=[twin], lastOnlineTime="2026-01-01T00:00:00Z")
    await eventually(says)
    held = await mirrored()
    assert held["status"] == {
        "twins": [twin],
        "state": "online",
        "lastOnlineTime": "2026-01-01T00:00:00Z",
    }
    assert held["metadata"]["ownerReferences"][0]["uid"] == lamp["metadata"]["uid"]
    await devices.admin.delete(LAMP)

    async def gone():
        return await mirrored() is None

    await eventually(gone)
