"""Classes, limits and quotas of pods with the real kubectl and the official client."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.kubecore.test_kubectl import VERSIONS, Kubectl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

LIMITS = """
apiVersion: v1
kind: LimitRange
metadata: {name: usual}
spec:
  limits:
  - {type: Container, default: {memory: 64Mi}, defaultRequest: {cpu: 100m}, max: {memory: 1Gi}}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: gvisor}
handler: runsc
overhead: {podFixed: {cpu: 250m}}
"""


@pytest.fixture(params=VERSIONS, ids=[str(v)[-4:] for v in VERSIONS])
async def kubectl(request, server, tmp_path):
    if request.param is None:
        pytest.skip("no kubectl on this machine")
    return Kubectl(request.param, server.kubeconfig(tmp_path / "kubeconfig"), tmp_path)


async def test_policies_are_made_shown_and_felt(kubectl):
    await kubectl("apply", "-f", "-", stdin=LIMITS)
    assert "unchanged" in await kubectl("apply", "-f", "-", stdin=LIMITS)
    await kubectl("create", "priorityclass", "high", "--value=1000", "--description=soon")
    await kubectl("create", "quota", "small", "--hard=pods=1,requests.cpu=1")
    shown = await kubectl("get", "priorityclasses,runtimeclasses,limits,quota")
    for word in ("system-node-critical", "2000001000", "high", "gvisor", "runsc", "usual", "small"):
        assert word in shown
    overrides = '{"spec":{"priorityClassName":"high","runtimeClassName":"gvisor"}}'
    await kubectl("run", "web", "--image=busybox", f"--overrides={overrides}")
    facts = "jsonpath={.spec.priority} {.spec.overhead.cpu} {.spec.containers[0].resources}"
    shown = await kubectl("get", "pod", "web", "-o", facts)
    resources = '{"limits":{"memory":"64Mi"},"requests":{"cpu":"100m","memory":"64Mi"}}'
    assert shown == f"1000 250m {resources}"
    status, output = await kubectl.run("run", "more", "--image=busybox")
    assert (status, "exceeded quota: small, requested: pods=1" in output) == (1, True)
    while "350m" not in (shown := await kubectl("describe", "quota", "small")):
        await asyncio.sleep(0.05)
    assert "requests.cpu" in shown
    assert "64Mi" in await kubectl("describe", "limits", "usual")
    assert "podFixed" in await kubectl("explain", "runtimeclass.overhead")
    await kubectl("delete", "quota", "small")
    await kubectl("run", "more", "--image=busybox")


async def test_the_official_client_makes_and_reads_policies(server, tmp_path):
    from kubernetes import client, config

    def run():
        api = config.new_client_from_config(str(server.kubeconfig(tmp_path / "kubeconfig")))
        with contextlib.closing(api):
            core, meta = client.CoreV1Api(api), client.V1ObjectMeta
            spec = client.V1ResourceQuotaSpec(hard={"pods": "0"})
            quota = client.V1ResourceQuota(metadata=meta(name="none"), spec=spec)
            core.create_namespaced_resource_quota("default", quota)
            container = client.V1Container(name="c", image="busybox")
            pod = client.V1Pod(
                metadata=meta(name="web"), spec=client.V1PodSpec(containers=[container])
            )
            try:
                core.create_namespaced_pod("default", pod)
            except client.ApiException as exc:
                told = (exc.status, str(exc.body))  # the exception itself would keep its connection
            classes = client.SchedulingV1Api(api).list_priority_class().items
            return *told, [one.metadata.name for one in classes]

    status, body, classes = await asyncio.to_thread(run)
    assert (status, "exceeded quota: none" in body) == (403, True)
    assert "system-cluster-critical" in classes
