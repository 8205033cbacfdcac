"""The real kubectl, several versions of it, against a real server."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

# Beside a dispatching `kubectl` lie the versions that it chooses from.
_BESIDE = sorted(str(p) for p in Path("/usr/lib/google-cloud-sdk/bin").glob("kubectl.1.*"))
VERSIONS = [v for v in _BESIDE if v.endswith((".29", ".32", ".33"))] or [shutil.which("kubectl")]

MANIFEST = """
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cfg}
data: {a: "1"}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  schedulerName: none
  containers: [{name: c, image: busybox, command: [sleep, "1000"]}]
"""
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.demo.example.com}
spec:
  group: demo.example.com
  scope: Namespaced
  names: {plural: lamps, kind: Lamp, shortNames: [lp]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Level, type: integer, jsonPath: .spec.level}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, required: [level], properties: {level: {type: integer, maximum: 10}}}
"""
LAMP = """
apiVersion: demo.example.com/v1
kind: Lamp
metadata: {name: l1}
spec: {level: 3}
"""


class Kubectl:
    def __init__(self, binary, kubeconfig, home):
        self.binary = binary
        self.env = {"KUBECONFIG": str(kubeconfig), "HOME": str(home), "PATH": os.environ["PATH"]}

    async def run(self, *arguments, stdin=""):
        """Return (exit status, output)."""
        process = await asyncio.create_subprocess_exec(
            self.binary,
            *arguments,
            env=self.env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate(stdin.encode())
        return process.returncode, output.decode()

    async def __call__(self, *arguments, stdin=""):
        status, output = await self.run(*arguments, stdin=stdin)
        assert status == 0, output
        return output


@pytest.fixture(params=VERSIONS, ids=[Path(v or "none").name for v in VERSIONS])
async def kubectl(request, server, tmp_path):
    if request.param is None:
        pytest.skip("no kubectl on this machine")
    kubeconfig = server.kubeconfig(tmp_path / "kubeconfig")
    return Kubectl(request.param, kubeconfig, tmp_path)


async def test_objects_are_applied_shown_changed_and_deleted(kubectl):
    assert "configmap/cfg created" in await kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert "pod/web unchanged" in await kubectl("apply", "-f", "-", stdin=MANIFEST)
    changed = MANIFEST.replace('a: "1"', 'a: "2"')
    assert "configmap/cfg configured" in await kubectl("apply", "-f", "-", stdin=changed)
    assert await kubectl("get", "cm", "cfg", "-o", "jsonpath={.data.a}") == "2"
    assert "Pending" in await kubectl("get", "pods", "-o", "wide")
    assert "busybox" in await kubectl("describe", "pod", "web")
    await kubectl("label", "pod", "web", "tier=front")
    await kubectl("annotate", "pod", "web", "note=x")
    assert "pod/web" in await kubectl("get", "pods", "-l", "tier=front", "-o", "name")
    await kubectl("patch", "cm", "cfg", "-p", '{"data":{"b":"3"}}')
    await kubectl("patch", "cm", "cfg", "--type=json", "-p", '[{"op":"remove","path":"/data/a"}]')
    assert await kubectl("get", "cm", "cfg", "-o", "jsonpath={.data}") == '{"b":"3"}'
    await kubectl("delete", "pod/web", "cm/cfg")
    await kubectl("create", "-f", "-", stdin=MANIFEST.split("---")[1])
    assert "NotFound" in (await kubectl.run("get", "pod", "web"))[1]


async def test_a_node_is_cordoned_tainted_and_drained(kubectl):
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    await kubectl("cordon", "n1")
    await kubectl("taint", "nodes", "n1", "a=b:NoSchedule")
    shown = await kubectl("describe", "node", "n1")
    assert "Unschedulable:      true" in shown
    assert "a=b:NoSchedule" in shown
    await kubectl("uncordon", "n1")
    await kubectl("drain", "n1")


async def test_watch_and_wait_follow_a_pod_to_its_end(kubectl, admin):
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    pod = "/api/v1/namespaces/default/pods/web"
    watch = asyncio.create_task(kubectl.run("get", "pods", "-w", "--request-timeout=4s"))
    wait = asyncio.create_task(
        kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/web", "--timeout=20s")
    )
    await asyncio.sleep(1)  # kubectl has to be listening: nothing here tells when it is
    await admin.post(f"{pod}/binding", {"target": {"name": "n1"}})
    await admin.merge(f"{pod}/status", {"status": {"phase": "Running"}})
    assert "condition met" in await wait
    delete = asyncio.create_task(kubectl("delete", "pod", "web"))
    while "deletionTimestamp" not in (await admin.get(pod))[1]["metadata"]:
        await asyncio.sleep(0.05)
    assert not delete.done(), "kubectl waits for the node"
    await admin.delete(pod, {"gracePeriodSeconds": 0})
    await delete
    _, shown = await watch
    for word in ("Pending", "Running", "Terminating"):
        assert word in shown


async def test_a_custom_kind_is_defined_explained_used_and_removed(kubectl):
    await kubectl("apply", "-f", "-", stdin=CRD)
    await kubectl("wait", "--for=condition=Established", "crd/lamps.demo.example.com")
    await kubectl("apply", "-f", "-", stdin=LAMP)
    shown = await kubectl("get", "lp")
    assert "LEVEL" in shown
    assert "level" in await kubectl("explain", "lamp.spec")
    assert "lamps" in await kubectl("api-resources")
    status, output = await kubectl.run("apply", "-f", "-", stdin=LAMP.replace("3", "30"))
    assert (status, "less than or equal to 10" in output) == (1, True)
    status, output = await kubectl.run("apply", "-f", "-", stdin=LAMP.replace("level", "levl"))
    assert (status, 'unknown field "spec.levl"' in output) == (1, True)
    await kubectl("delete", "crd", "lamps.demo.example.com")


async def test_a_namespace_is_deleted_with_its_content(kubectl):
    namespace = '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}'
    await kubectl("create", "-f", "-", stdin=namespace)
    await kubectl("apply", "-n", "shop", "-f", "-", stdin=MANIFEST.split("---")[1])
    await kubectl("delete", "ns", "shop")
    assert "shop" not in await kubectl("get", "ns")


async def test_objects_are_created_by_command(kubectl):
    """From 1.32 on kubectl sends these in protobuf."""
    await kubectl("create", "namespace", "shop")
    await kubectl("create", "configmap", "c", "--from-literal=a=1", "-n", "shop")
    await kubectl("create", "secret", "generic", "s", "--from-literal=p=q", "-n", "shop")
    await kubectl("create", "serviceaccount", "bot", "-n", "shop")
    await kubectl("create", "service", "clusterip", "web", "--tcp=80:8080", "-n", "shop")
    await kubectl("create", "role", "r", "--verb=get", "--resource=pods", "-n", "shop")
    await kubectl(
        "create", "rolebinding", "b", "--role=r", "--serviceaccount=shop:bot", "-n", "shop"
    )
    await kubectl("create", "clusterrole", "cr", "--verb=list", "--resource=nodes")
    await kubectl("create", "clusterrolebinding", "cb", "--clusterrole=cr", "--user=jo")
    assert await kubectl("get", "cm", "c", "-n", "shop", "-o", "jsonpath={.data}") == '{"a":"1"}'
    assert await kubectl("get", "secret", "s", "-n", "shop", "-o", "jsonpath={.data.p}") == "cQ=="
    port = "jsonpath={.spec.ports[0].port}:{.spec.ports[0].targetPort}"
    assert await kubectl("get", "svc", "web", "-n", "shop", "-o", port) == "80:8080"
    bot = "--as=system:serviceaccount:shop:bot"
    assert await kubectl("auth", "can-i", "get", "pods", "-n", "shop", bot) == "yes\n"
    status, output = await kubectl.run("auth", "can-i", "delete", "pods", "-n", "shop", bot)
    assert (status, "no" in output) == (1, True)


async def test_what_is_not_served_is_said_clearly(kubectl):
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    _, output = await kubectl.run("apply", "--server-side", "-f", "-", stdin=LAMP)
    assert "no matches for kind" in output
    _, output = await kubectl.run("apply", "--server-side", "-f", "-", stdin=MANIFEST)
    assert "server-side apply is not served yet" in output


async def test_tokens_and_rights_are_asked_for_by_command(kubectl):
    token = await kubectl("create", "token", "default", "--duration=20m")
    assert token.count(".") == 2
    assert "Username" in await kubectl("auth", "whoami")
    assert "[*]" in await kubectl("auth", "can-i", "--list")


async def test_a_running_pod_is_debugged(kubectl, admin):
    await kubectl("apply", "-f", "-", stdin=MANIFEST)
    await kubectl("debug", "web", "--image=busybox", "--target=c", "-c", "dbg", "--", "sh")
    containers = "jsonpath={.spec.ephemeralContainers[*].name}"
    assert await kubectl("get", "pod", "web", "-o", containers) == "dbg"
    await kubectl("debug", "web", "--image=busybox", "-c", "more", "--", "sh")
    assert await kubectl("get", "pod", "web", "-o", containers) == "dbg more"
    pod = "/api/v1/namespaces/default/pods/web"
    status, body = await admin.merge(
        f"{pod}/ephemeralcontainers", {"spec": {"ephemeralContainers": []}}
    )
    assert (status, "may not be removed" in body["message"]) == (422, True)
    status, body = await admin.merge(pod, {"spec": {"ephemeralContainers": []}})
    assert status == 422
