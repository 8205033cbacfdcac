"""Endpoints of services, kept by a running kubecore."""

from __future__ import annotations

import asyncio

import pytest

from tests.kubecore.samples import make_pod

pytestmark = pytest.mark.timeout(60)
DEFAULT = "/api/v1/namespaces/default"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
OF_SHOP = f"{SLICES}?labelSelector=kubernetes.io/service-name%3Dshop"


async def until(read, accept):
    """Return what `read` gives once `accept` takes it."""
    async with asyncio.timeout(30):
        while not accept(found := await read()):
            await asyncio.sleep(0.02)
        return found


async def addresses(admin):
    _, body = await admin.get(f"{DEFAULT}/endpoints/shop")
    return [a["ip"] for s in body.get("subsets") or () for a in s.get("addresses") or ()]


async def in_slices(admin):
    _, body = await admin.get(OF_SHOP)
    return [a for s in body["items"] for e in s["endpoints"] or () for a in e["addresses"]]


async def run_pod(admin, name, ip):
    body = make_pod(name)
    body["metadata"]["labels"] = {"app": "shop"}
    body["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 8080}]
    await admin.post(f"{DEFAULT}/pods", body)
    status = {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    assert (await admin.merge(f"{DEFAULT}/pods/{name}/status", {"status": status}))[0] == 200


async def test_endpoints_follow_the_pods_behind_a_service(admin):
    ports = [{"name": "web", "port": 80, "targetPort": "http"}]
    spec = {"selector": {"app": "shop"}, "ports": ports}
    await admin.post(f"{DEFAULT}/services", {"metadata": {"name": "shop"}, "spec": spec})
    await run_pod(admin, "a", "10.1.0.1")
    await run_pod(admin, "b", "10.1.0.2")
    both = ["10.1.0.1", "10.1.0.2"]
    await until(lambda: addresses(admin), lambda found: found == both)
    await until(lambda: in_slices(admin), lambda found: found == both)
    # Labels, readiness and deletion each take a pod out.
    await admin.merge(f"{DEFAULT}/pods/a", {"metadata": {"labels": {"app": "other"}}})
    await until(lambda: addresses(admin), lambda found: found == both[1:])
    await admin.delete(f"{DEFAULT}/pods/b", {"gracePeriodSeconds": 0})
    await until(lambda: addresses(admin), lambda found: found == [])
    await until(lambda: in_slices(admin), lambda found: found == [])
    # What somebody else wrote into them is mended.
    await admin.merge(f"{DEFAULT}/pods/a", {"metadata": {"labels": {"app": "shop"}}})
    await until(lambda: addresses(admin), lambda found: found == both[:1])
    await admin.merge(f"{DEFAULT}/endpoints/shop", {"subsets": []})
    await until(lambda: addresses(admin), lambda found: found == both[:1])
    await admin.delete(f"{DEFAULT}/services/shop")

    async def left():
        status, _ = await admin.get(f"{DEFAULT}/endpoints/shop")
        _, body = await admin.get(OF_SHOP)
        return status, len(body["items"])

    await until(left, lambda found: found == (404, 0))


async def test_endpoints_of_a_service_without_selector_are_its_owners(admin):
    subset = {"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 80}]}
    await admin.post(f"{DEFAULT}/endpoints", {"metadata": {"name": "shop"}, "subsets": [subset]})
    spec = {"ports": [{"port": 80}]}
    await admin.post(f"{DEFAULT}/services", {"metadata": {"name": "shop"}, "spec": spec})
    marker = {"selector": {"app": "shop"}, "ports": [{"port": 80}]}
    await admin.post(f"{DEFAULT}/services", {"metadata": {"name": "marker"}, "spec": marker})

    async def kept():
        return (await admin.get(f"{DEFAULT}/endpoints/marker"))[0]

    await until(kept, lambda status: status == 200)  # the controller has had its turn
    assert await addresses(admin) == ["192.0.2.7"]
    # Their slices say the same, as long as there are any.
    await until(lambda: in_slices(admin), lambda found: found == ["192.0.2.7"])
    subset["addresses"].append({"ip": "2001:db8::7"})
    await admin.merge(f"{DEFAULT}/endpoints/shop", {"subsets": [subset]})
    await until(lambda: in_slices(admin), lambda found: len(found) == 2)
    _, body = await admin.get(OF_SHOP)
    assert sorted(one["addressType"] for one in body["items"]) == ["IPv4", "IPv6"]
    await admin.delete(f"{DEFAULT}/endpoints/shop")
    await until(lambda: in_slices(admin), lambda found: found == [])


async def test_addresses_that_are_none_stop_nobody(server, admin):
    spec = {"selector": {"app": "shop"}, "ports": [{"port": 80}]}
    await admin.post(f"{DEFAULT}/services", {"metadata": {"name": "shop"}, "spec": spec})
    await run_pod(admin, "bad", "nowhere")
    await run_pod(admin, "good", "10.1.0.1")
    await until(lambda: addresses(admin), lambda found: found == ["10.1.0.1"])
    subset = {"addresses": [{"ip": "nowhere"}], "ports": [{"port": 0}]}
    body = {"metadata": {"name": "own"}, "subsets": [subset, {}]}
    status, answer = await admin.post(f"{DEFAULT}/endpoints", body)
    assert status == 422
    for problem in (
        "must be a valid IP address",
        "between 1 and 65535",
        "must specify `addresses`",
    ):
        assert problem in answer["message"]
    endpoint = {"addresses": ["10.1.0.1"]}
    body = {"metadata": {"name": "own"}, "addressType": "IPv6", "endpoints": [endpoint]}
    status, answer = await admin.post(SLICES, body)
    assert (status, "must be an IPv6 address" in answer["message"]) == (422, True)
