"""cloudcore's half of the sync path against the embedded API, as a process of its own, over mutual TLS."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from cloudcore.edgecontroller.controller import EdgeController
from cloudcore.edgecontroller.nodes import AGENT_LABEL
from cloudcore.edgecontroller.upstream import NodeReports
from cloudcore.kube.client import KubeClient
from cloudcore.kube.errors import KubeForbiddenError, KubeUnreachableError
from cloudcore.kube.informer import Informers
from cloudcore.kube.kubeconfig import load_endpoint
from cloudcore.settings import KubeSettings
from corekit.pki import Authority, KeyPair
from synccore.messages import Delta, ObjectKey, Op
from tests.fakes.kubeapi import until

pytestmark = pytest.mark.timeout(60)

FAST = KubeSettings(page_size=2, backoff_min_s=0.05, backoff_max_s=0.5)
RBAC = Path(__file__).parents[2] / "deploy" / "rbac.yaml"
GROUP = "devices.kubeedge.io"
PATHS = {
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}


class Cluster:
    """One kubecore process; `as_user` makes a client of it."""

    def __init__(self, folder, port):
        self.folder, self.port = folder, port
        self.authority = Authority(folder / "pki", "test CA")
        self._process = None

    async def start(self):
        pair = self._pair("kubecore", "kubecore", hosts=("127.0.0.1",))
        settings = {
            "serve": {
                "address": f"127.0.0.1:{self.port}",
                "cert_file": str(pair.cert_file),
                "key_file": str(pair.key_file),
                "client_ca_file": str(self.authority.pair.cert_file),
            },
            "store": {"path": str(self.folder / "kubecore.db")},
        }
        config = self.folder / "kubecore.yaml"
        config.write_text(yaml.safe_dump(settings))
        with (self.folder / "kubecore.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "kubecore", "--config", str(config), stderr=log
            )

    async def stop(self, *, kill=False):
        if self._process.returncode is None:
            (self._process.kill if kill else self._process.terminate)()
        await self._process.wait()

    def as_user(self, name, *organizations):
        pair = self._pair(name.replace(":", "-"), name, organizations=organizations)
        cluster = {
            "server": f"https://127.0.0.1:{self.port}",
            "certificate-authority": str(self.authority.pair.cert_file),
        }
        user = {"client-certificate": str(pair.cert_file), "client-key": str(pair.key_file)}
        tree = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "c", "user": user}],
        }
        path = self.folder / f"{pair.cert_file.stem}.kubeconfig"
        path.write_text(yaml.safe_dump(tree))
        return KubeClient(load_endpoint(str(path)), timeout_s=5.0)

    def _pair(self, stem, name, **more):
        pair = KeyPair(self.folder / "pki" / f"{stem}.crt", self.folder / "pki" / f"{stem}.key")
        return self.authority.issue(pair, name, **more)


@pytest.fixture
async def cluster(tmp_path, unused_tcp_port):
    cluster = Cluster(tmp_path, unused_tcp_port)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


@pytest.fixture
async def admin(cluster):
    async with cluster.as_user("kubernetes-admin", "system:masters") as client:
        while True:
            try:
                await client.get("/api/v1/namespaces/kube-node-lease")
                break
            except KubeUnreachableError:
                await asyncio.sleep(0.1)
        yield client


async def apply_rbac(admin):
    for doc in yaml.safe_load_all(RBAC.read_text()):
        await admin.post(PATHS[doc["kind"]], json.dumps(doc).encode())


async def create(admin, path, obj):
    return json.loads(await admin.post(path, json.dumps(obj).encode()))


def crd(kind, plural):
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1beta1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


class Cloud:
    def __init__(self, client):
        self.informers = Informers(client, FAST)
        self.controller = EdgeController(self.informers, client, FAST)
        self.reports = NodeReports(self.informers, client, backoff_s=(0.05, 0.5))


@asynccontextmanager
async def cloudcore(cluster):
    async with cluster.as_user("armadillo:cloudcore", "armadillo:cloudcore") as client:
        cloud = Cloud(client)
        async with cloud.controller:
            tasks = [
                asyncio.create_task(cloud.informers.run()),
                asyncio.create_task(cloud.controller.run()),
            ]
            try:
                yield cloud
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


def report(kind, namespace, name, body=None, *, uid="", op=Op.UPSERT):
    encoded = b"" if body is None else json.dumps(body).encode()
    return Delta(op, ObjectKey(kind, namespace, name), uid, 1, body=encoded)


NODE = report(
    "Node",
    "",
    "edge-1",
    {
        "metadata": {"labels": {"kubernetes.io/hostname": "edge-1"}},
        "spec": {"taints": []},
        "status": {
            "capacity": {"cpu": "2", "memory": "1Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.2"}],
        },
    },
)
LEASE = report(
    "Lease",
    "kube-node-lease",
    "edge-1",
    {"renewTime": "2026-01-01T00:00:00.000000Z", "leaseDurationSeconds": 40},
)
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "nodeName": "edge-1",
        "automountServiceAccountToken": False,
        "containers": [
            {"name": "c", "image": "busybox", "envFrom": [{"configMapRef": {"name": "env"}}]}
        ],
    },
}
ENV = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "env"}, "data": {"A": "1"}}
POD_KEY, ENV_KEY = ObjectKey("Pod", "default", "web"), ObjectKey("ConfigMap", "default", "env")
API_SERVICE = ObjectKey("Service", "default", "kubernetes")  # every pod is told of it


async def test_a_node_registers_gets_its_pod_reports_it_and_survives_restarts(cluster, admin):
    await apply_rbac(admin)
    async with cloudcore(cluster) as cloud:
        await until(lambda: cloud.controller.synced)  # without the CRDs
        await cloud.reports.write("edge-1", NODE)
        await cloud.reports.write("edge-1", LEASE)
        await cloud.reports.write("edge-1", LEASE)
        view = cloud.controller.open("edge-1", lambda _: None, lambda: None)
        await create(admin, "/api/v1/namespaces/default/configmaps", ENV)
        made = await create(admin, "/api/v1/namespaces/default/pods", POD)
        uid = made["metadata"]["uid"]
        await until(lambda: set(view.index.keys()) == {POD_KEY, ENV_KEY, API_SERVICE})
        body = json.loads(view.read(POD_KEY).body)
        assert "status" not in body
        assert body["kind"] == "Pod"

        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIPs": [{"ip": "10.1.0.1"}], "conditions": [ready]}
        await cloud.reports.write(
            "edge-1", report("Pod", "default", "web", {"status": status}, uid=uid)
        )
        stored = json.loads(await admin.get("/api/v1/namespaces/default/pods/web"))
        assert stored["status"]["phase"] == "Running"
        assert [p["ip"] for p in stored["status"]["podIPs"]] == ["10.1.0.1"]
        node = json.loads(await admin.get("/api/v1/nodes/edge-1"))
        assert node["metadata"]["labels"][AGENT_LABEL] == "edgecore"
        assert node["status"]["addresses"] == [{"type": "InternalIP", "address": "10.0.0.2"}]
        lease = json.loads(
            await admin.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1")
        )
        assert lease["spec"]["holderIdentity"] == "edge-1"

        for plural, kind in (("devices", "Device"), ("devicemodels", "DeviceModel")):
            await create(
                admin,
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                crd(kind, plural),
            )
        device = {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": "Device",
            "metadata": {"name": "lamp", "namespace": "default"},
            "spec": {"nodeName": "edge-1", "deviceModelRef": {"name": "bulb"}},
        }
        path = f"/apis/{GROUP}/v1beta1/namespaces/default/devices"
        await until_created(admin, path, device)
        lamp = ObjectKey("Device", "default", "lamp")
        await until(lambda: view.index.version(lamp) is not None)

        digest = view.index.digest()
        await cluster.stop(kill=True)
        await cluster.start()
        patch = json.dumps({"data": {"A": "2"}}).encode()
        await until_patched(admin, "/api/v1/namespaces/default/configmaps/env", patch)
        await until(lambda: view.read(ENV_KEY) and b'"A":"2"' in view.read(ENV_KEY).body)
        assert view.index.digest() != digest
        digest = view.index.digest()

    async with cloudcore(cluster) as cloud:
        await until(lambda: cloud.controller.synced)
        view = cloud.controller.open("edge-1", lambda _: None, lambda: None)
        assert view.index.digest() == digest

        await admin.delete("/api/v1/namespaces/default/pods/web")
        end = report("Pod", "default", "web", uid=uid, op=Op.TOMBSTONE)
        await until(lambda: b"deletionTimestamp" in view.read(POD_KEY).body)
        await cloud.reports.write("edge-1", end)
        await until(lambda: set(view.index.keys()) == {lamp})


def with_ready(status, **more):
    condition = {"type": "Ready", "status": status, **more}
    body = json.loads(NODE.body)
    body["status"]["conditions"] = [condition]
    return report("Node", "", "edge-1", body)


async def test_pods_of_a_node_that_was_not_ready_for_a_while_become_ready_again(cluster, admin):
    await apply_rbac(admin)
    async with cloudcore(cluster) as cloud:
        await until(lambda: cloud.controller.synced)
        await cloud.reports.write("edge-1", NODE)
        await cloud.reports.write("edge-1", LEASE)
        made = await create(admin, "/api/v1/namespaces/default/pods", POD)
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "conditions": [ready]}
        web = report("Pod", "default", "web", {"status": status}, uid=made["metadata"]["uid"])
        asked = []
        cloud.controller.open("edge-1", lambda _: None, lambda: asked.append("all"))
        await cloud.reports.write("edge-1", web)

        async def condition():
            pod = json.loads(await admin.get("/api/v1/namespaces/default/pods/web"))
            (found,) = [c for c in pod["status"]["conditions"] if c["type"] == "Ready"]
            return found

        await cloud.reports.write("edge-1", with_ready("False", reason="RuntimeNotReady"))
        while (await condition())["status"] != "False":
            await asyncio.sleep(0.05)
        asked.clear()  # at its registration it was not ready either
        await cloud.reports.write("edge-1", web)  # too early: the cluster says it again
        while (await condition())["status"] != "False":
            await asyncio.sleep(0.05)
        assert not asked
        await cloud.reports.write("edge-1", with_ready("True", reason="Ready"))
        await until(lambda: asked)
        await cloud.reports.write("edge-1", web)
        assert (await condition())["status"] == "True"
        assert not {"reason", "message"} & (await condition()).keys()
        await until(lambda: cloud.controller._standings == {})
        assert (await condition())["status"] == "True"


async def test_events_are_counted_up_and_foreign_writes_refused_by_the_api_too(cluster, admin):
    await apply_rbac(admin)
    async with cloudcore(cluster) as cloud:
        await until(lambda: cloud.controller.synced)
        await cloud.reports.write("edge-1", NODE)
        for count in (1, 1, 2):
            event = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": "edge-1.0123456789abcdef", "namespace": "default"},
                "involvedObject": {"kind": "Node", "name": "edge-1"},
                "reason": "Started",
                "message": "it runs",
                "type": "Normal",
                "count": count,
                "lastTimestamp": "2026-01-01T00:00:00Z",
                "firstTimestamp": "2026-01-01T00:00:00Z",
                "source": {"component": "edgecore", "host": "edge-1"},
            }
            name = event["metadata"]["name"]
            await cloud.reports.write("edge-1", report("Event", "default", name, event))
        path = "/api/v1/namespaces/default/events/edge-1.0123456789abcdef"
        assert json.loads(await admin.get(path))["count"] == 2
    async with cluster.as_user("armadillo:cloudcore", "armadillo:cloudcore") as client:
        with pytest.raises(KubeForbiddenError):  # as another node
            await client.patch(
                "/api/v1/nodes/edge-1/status", b'{"status":{}}', impersonate_node="edge-2"
            )
        with pytest.raises(KubeForbiddenError):  # as itself
            await client.patch("/api/v1/nodes/edge-1/status", b'{"status":{}}')


async def test_without_its_role_cloudcore_says_what_it_lacks_and_recovers(cluster, admin, caplog):
    async with cloudcore(cluster) as cloud:
        await until(lambda: "may not get, list and watch secrets" in caplog.text)
        assert not cloud.controller.synced
        await apply_rbac(admin)
        await until(lambda: cloud.controller.synced)


async def until_created(admin, path, obj):
    while True:
        try:
            return await create(admin, path, obj)
        except Exception:  # the CRD is not served yet
            await asyncio.sleep(0.05)


async def until_patched(admin, path, patch):
    while True:
        try:
            return await admin.patch(path, patch)
        except KubeUnreachableError:
            await asyncio.sleep(0.05)
