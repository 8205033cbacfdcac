"""Addresses and node ports of services, through the whole API."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.errors import ConfigError
from kubecore.errors import ApiStatusError
from kubecore.kinds.registry import Registry
from kubecore.objects.service_addresses import ServiceAddresses, _pick, carry_addresses
from kubecore.schema.checking import check
from kubecore.settings import ServiceSettings
from kubecore.storage.store import Store

pytestmark = pytest.mark.timeout(30)
SERVICES = "/api/v1/namespaces/default/services"
RANGE = ipaddress.ip_network("10.96.0.0/12")


def service(name, **spec):
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def made(admin, name, **spec):
    status, body = await admin.post(SERVICES, service(name, **spec))
    assert status == 201, body
    return body["spec"]


async def refused(admin, name, **spec):
    status, body = await admin.post(SERVICES, service(name, **spec))
    assert status == 422, body
    return body["message"]


async def test_a_service_gets_an_address_and_what_upstream_fills_in(admin):
    spec = await made(admin, "a", selector={"app": "a"})
    address = spec.pop("clusterIP")
    assert ipaddress.ip_address(address) in RANGE
    assert spec == {
        "clusterIPs": [address],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
        "type": "ClusterIP",
        "selector": {"app": "a"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    }


async def test_many_made_at_once_have_different_addresses_and_ports(admin):
    specs = await asyncio.gather(*(made(admin, f"s{i}", type="NodePort") for i in range(40)))
    assert len({spec["clusterIP"] for spec in specs}) == 40
    ports = {spec["ports"][0]["nodePort"] for spec in specs}
    assert len(ports) == 40
    assert all(30000 <= port <= 32767 for port in ports)


async def test_an_address_can_be_asked_for_once_and_again_when_it_is_free(admin):
    assert (await made(admin, "a", clusterIP="10.96.0.10"))["clusterIPs"] == ["10.96.0.10"]
    problem = (
        'Service "b" is invalid: spec.clusterIPs: Invalid value: []string{"10.96.0.10"}: failed to '
        "allocate IP 10.96.0.10: provided IP is already allocated"
    )
    assert await refused(admin, "b", clusterIP="10.96.0.10") == problem
    await admin.delete(f"{SERVICES}/a")
    await made(admin, "b", clusterIP="10.96.0.10")


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"clusterIP": "192.168.0.1"}, "The range of valid IPs is 10.96.0.0/12"),
        ({"clusterIP": "10.96.0.0"}, "is not in the valid range"),
        ({"clusterIP": "10.96.0.1"}, "provided IP is already allocated"),
        ({"clusterIP": "here"}, 'spec.clusterIPs[0]: Invalid value: "here": must be a valid IP'),
        ({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.8"]}, "must match `clusterIP`"),
        ({"type": "NodePort", "clusterIP": "None"}, "may not be set to 'None' for NodePort"),
        ({"ipFamilies": ["IPv6"]}, 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured'),
        ({"ipFamilyPolicy": "RequireDualStack"}, "not configured for dual-stack services"),
        ({"ports": []}, "spec.ports: Required value"),
        ({"ports": [{"port": 80, "protocol": "XTP"}]}, 'Unsupported value: "XTP"'),
        ({"ports": [{"port": 1, "nodePort": 30000}]}, "may not be used when `type` is 'ClusterIP'"),
        ({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}, "Duplicate value"),
        ({"sessionAffinity": "Sometimes"}, 'Unsupported value: "Sometimes"'),
        ({"type": "ExternalName"}, "spec.externalName: Required value"),
        (
            {"type": "ExternalName", "externalName": "a.b", "clusterIP": "10.96.0.9"},
            "may not be set for ExternalName services",
        ),
        (
            {"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]},
            "The range of valid ports is 30000-32767",
        ),
    ],
)
async def test_what_cannot_be_given_is_refused_in_upstreams_words(admin, spec, problem):
    assert problem in await refused(admin, "x", **spec)


async def test_headless_and_external_services_have_no_address(admin):
    headless = await made(admin, "a", clusterIP="None", selector={"a": "b"})
    assert (headless["clusterIP"], headless["clusterIPs"]) == ("None", ["None"])
    external = await made(admin, "b", type="ExternalName", externalName="example.com", ports=[])
    assert "clusterIP" not in external
    assert (await made(admin, "c", clusterIP="None"))["ipFamilyPolicy"] == "RequireDualStack"


async def test_an_address_stays_and_is_carried_through_updates(admin):
    spec = await made(admin, "a", selector={"a": "b"})
    path = f"{SERVICES}/a"
    problem = (
        'Service "a" is invalid: spec.clusterIPs[0]: Invalid value: []string{"10.96.0.77"}: may not '
        "change once set"
    )
    status, body = await admin.merge(path, {"spec": {"clusterIP": "10.96.0.77"}})
    assert (status, body["message"]) == (422, problem)
    # As `kubectl replace` of a manifest that does not name it.
    status, body = await admin.put(path, service("a", selector={"a": "c"}))
    assert (status, body["spec"]["clusterIP"]) == (200, spec["clusterIP"])
    status, body = await admin.merge(path, {"spec": {"type": "NodePort"}})
    port = body["spec"]["ports"][0]["nodePort"]
    status, body = await admin.put(path, service("a", type="NodePort", selector={"a": "c"}))
    assert body["spec"]["ports"][0]["nodePort"] == port
    assert body["spec"]["clusterIP"] == spec["clusterIP"]
    status, body = await admin.merge(path, {"spec": {"type": "ClusterIP"}})
    assert (status, "nodePort" in body["spec"]["ports"][0]) == (200, False)
    change = {"spec": {"type": "ExternalName", "externalName": "example.com"}}
    status, body = await admin.merge(path, change)
    assert (status, "clusterIP" in body["spec"]) == (200, False)
    status, body = await admin.merge(path, {"spec": {"type": "ClusterIP", "externalName": None}})
    assert ipaddress.ip_address(body["spec"]["clusterIP"]) in RANGE


async def test_node_ports_are_unique_and_shared_by_both_protocols_of_a_port(admin):
    ports = [
        {"name": "u", "port": 53, "protocol": "UDP"},
        {"name": "t", "port": 53, "protocol": "TCP", "nodePort": 30053},
    ]
    spec = await made(admin, "dns", type="NodePort", ports=ports)
    assert [port["nodePort"] for port in spec["ports"]] == [30053, 30053]
    taken = [{"port": 1, "nodePort": 30053}]
    problem = "spec.ports[0].nodePort: Invalid value: 30053: provided port is already allocated"
    assert problem in await refused(admin, "b", type="NodePort", ports=taken)
    spec = await made(admin, "lb", type="LoadBalancer", allocateLoadBalancerNodePorts=False)
    assert "nodePort" not in spec["ports"][0]


async def test_a_dry_run_takes_nothing(admin):
    body = service("a", clusterIP="10.96.0.20")
    assert (await admin.post(f"{SERVICES}?dryRun=All", body))[0] == 201
    await made(admin, "b", clusterIP="10.96.0.20")


async def test_the_api_server_has_a_service_that_comes_back(admin):
    path = f"{SERVICES}/kubernetes"
    status, body = await admin.get(path)
    assert (status, body["spec"]["clusterIP"]) == (200, "10.96.0.1")
    assert body["spec"]["ports"][0]["port"] == 443
    uid = body["metadata"]["uid"]
    await admin.delete(path)
    async with asyncio.timeout(20):
        while True:
            status, body = await admin.get(path)
            if status == 200 and body["metadata"]["uid"] != uid:
                break
            await asyncio.sleep(0.02)
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    status, body = await admin.get(slices)
    assert body["endpoints"] == []  # the test's server listens on loopback


@pytest.mark.parametrize(
    "settings",
    [
        {"cluster_ip_range": "10.0.0.0/30"},
        {"cluster_ip_range": "10.0.0.1/12"},
        {"cluster_ip_range": "x"},
        {"node_port_range": "5"},
        {"node_port_range": "9-5"},
        {"node_port_range": "1-70000"},
        {"advertise_address": "host"},
    ],
)
def test_settings_that_are_no_range_are_named(settings):
    (key,) = settings
    with pytest.raises(ConfigError, match=f"services.{key}"):
        ServiceSettings(**settings)


async def test_a_range_may_be_of_the_other_family_and_ends(tmp_path):
    resource = Registry().find("", "v1", "services")
    async with Store(tmp_path / "kube.db") as store:
        running = asyncio.create_task(store.run())
        for text, count in (("fd00:10:96::/124", 14), ("10.96.0.0/28", 13)):
            network = ipaddress.ip_network(text)
            addresses = ServiceAddresses(store, network, (30000, 30010))
            given = set()
            for number in range(count):
                body = check(resource, service(f"v{network.version}-{number}")).obj
                body["metadata"] |= {"namespace": text.replace("/", "-")}
                addresses.admit(resource, body, None)
                assert body["spec"]["ipFamilies"] == [f"IPv{network.version}"]
                given.add(body["spec"]["clusterIP"])
                await store.put("services", body)
            assert len(given) == count
            assert addresses.master not in given
            full = check(resource, service("full")).obj
            with pytest.raises(ApiStatusError, match="range is full"):
                addresses.admit(resource, full, None)
        running.cancel()


@given(st.sets(st.integers(0, 20)), st.integers(0, 10), st.integers(10, 20))
def test_what_is_picked_is_free_and_in_its_band(taken, first, last):
    number = _pick(taken, (first, last))
    assert (number is None) == set(range(first, last + 1)).issubset(taken)
    assert number is None or (number not in taken and first <= number <= last)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
SPEC = st.fixed_dictionaries(
    {},
    optional={
        "type": JSON | st.sampled_from(["ClusterIP", "NodePort", "ExternalName"]),
        "clusterIP": JSON,
        "clusterIPs": JSON,
        "ports": JSON | st.lists(st.dictionaries(st.sampled_from(["port", "nodePort"]), JSON)),
    },
)


@given(SPEC | JSON)
def test_an_update_of_any_shape_is_left_for_the_schema_to_refuse(spec):
    old = service("a", type="NodePort", clusterIP="10.96.0.9", clusterIPs=["10.96.0.9"])
    old["spec"]["ports"][0] |= {"protocol": "TCP", "nodePort": 30001}
    carry_addresses({"spec": spec}, old)
