"""Services, their addresses and endpoints, with the real kubectl and the official client."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.kubecore.controllers.test_endpoints import run_pod
from tests.kubecore.test_kubectl import VERSIONS, Kubectl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


@pytest.fixture(params=VERSIONS, ids=[str(v)[-4:] for v in VERSIONS])
async def kubectl(request, server, tmp_path):
    if request.param is None:
        pytest.skip("no kubectl on this machine")
    return Kubectl(request.param, server.kubeconfig(tmp_path / "kubeconfig"), tmp_path)


async def test_a_pod_is_exposed_and_its_endpoints_are_described(kubectl, admin):
    await run_pod(admin, "a", "10.1.0.1")
    await kubectl("expose", "pod", "a", "--name=shop", "--port=80", "--target-port=http")
    jsonpath = "-o=jsonpath={.spec.clusterIP}"
    address = await kubectl("get", "svc", "shop", jsonpath)
    assert address.startswith("10.")
    assert address in await kubectl("get", "svc")
    while "10.1.0.1:8080" not in await kubectl("get", "endpoints", "shop"):
        await asyncio.sleep(0.05)
    while "10.1.0.1" not in await kubectl("get", "endpointslices"):
        await asyncio.sleep(0.05)
    assert "10.1.0.1:8080" in await kubectl("describe", "svc", "shop")
    await kubectl("wait", "--for=jsonpath={.spec.type}=ClusterIP", "svc/shop", "--timeout=20s")
    status, output = await kubectl.run(
        "patch", "svc", "shop", "-p", '{"spec":{"clusterIP":"10.96.7.7"}}'
    )
    assert (status, "may not change once set" in output) == (1, True)
    await kubectl("patch", "svc", "shop", "-p", '{"spec":{"type":"NodePort"}}')
    assert ":3" in await kubectl("get", "svc", "shop")
    await kubectl("delete", "svc", "shop")
    assert "shop" not in await kubectl("get", "svc")


async def test_services_of_every_type_are_created_by_command(kubectl):
    await kubectl("create", "service", "nodeport", "np", "--tcp=80", "--node-port=30099")
    await kubectl("create", "service", "externalname", "ext", "--external-name=example.com")
    await kubectl("create", "service", "clusterip", "head", "--clusterip=None", "--tcp=80")
    shown = await kubectl("get", "svc")
    assert "80:30099/TCP" in shown
    assert "example.com" in shown
    assert "None" in shown
    status, output = await kubectl.run(
        "create", "service", "nodeport", "other", "--tcp=80", "--node-port=30099"
    )
    assert (status, "provided port is already allocated" in output) == (1, True)


async def test_the_official_client_reads_what_services_were_given(server, tmp_path):
    from kubernetes import client, config

    def run():
        api = config.new_client_from_config(str(server.kubeconfig(tmp_path / "kubeconfig")))
        with contextlib.closing(api):
            core = client.CoreV1Api(api)
            ports = [client.V1ServicePort(port=80)]
            body = client.V1Service(
                metadata=client.V1ObjectMeta(name="a"), spec=client.V1ServiceSpec(ports=ports)
            )
            made = core.create_namespaced_service("default", body)
            slices = client.DiscoveryV1Api(api).list_namespaced_endpoint_slice("default")
            return made.spec, [one.metadata.name for one in slices.items]

    spec, slices = await asyncio.to_thread(run)
    assert spec.cluster_ips == [spec.cluster_ip]
    assert spec.ip_families == ["IPv4"]
    assert "kubernetes" in slices
