import pytest

from kubecore.controllers.endpoint_sets import (
    MAX_ADDRESSES,
    backends,
    endpoints_of,
    mirrored_of,
    selects,
    shrink_pod,
    slices_of,
)


def pod(name="a", ip="10.1.0.1", ready=True, **changes):
    return shrink_pod(
        {
            "metadata": {"namespace": "d", "name": name, "uid": f"u-{name}", "labels": {"app": "x"}}
            | changes.pop("metadata", {}),
            "spec": {
                "nodeName": "n1",
                "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}],
                **changes.pop("spec", {}),
            },
            "status": {
                "phase": "Running",
                "podIPs": [{"ip": ip}] if ip else [],
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
                **changes,
            },
        }
    )


def service(**spec):
    ports = [{"name": "web", "port": 80, "protocol": "TCP", "targetPort": "http"}]
    return {
        "metadata": {"namespace": "d", "name": "shop", "uid": "u", "labels": {"tier": "front"}},
        "spec": {"selector": {"app": "x"}, "ports": ports, "ipFamilies": ["IPv4"], **spec},
    }


def of(one, *pods):
    return endpoints_of(one, backends(one, pods))


def target(name):
    return {"kind": "Pod", "namespace": "d", "name": name, "uid": f"u-{name}"}


def test_ready_and_waiting_pods_stand_apart():
    made = of(service(), pod("b", "10.1.0.2", ready=False), pod())
    assert made == {
        "metadata": {"name": "shop", "labels": {"tier": "front"}},
        "subsets": [
            {
                "addresses": [{"ip": "10.1.0.1", "nodeName": "n1", "targetRef": target("a")}],
                "notReadyAddresses": [
                    {"ip": "10.1.0.2", "nodeName": "n1", "targetRef": target("b")}
                ],
                "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
            }
        ],
    }


@pytest.mark.parametrize(
    "one",
    [
        pod(phase="Succeeded"),
        pod(phase="Failed"),
        pod(ip=""),
        pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        pod(ip="fd00::1"),
        pod(spec={"containers": [{"ports": [{"name": "other", "containerPort": 1}]}]}),
    ],
)
def test_pods_that_cannot_serve_are_not_endpoints(one):
    assert "subsets" not in of(service(), one)


def test_a_service_may_publish_pods_before_they_are_ready():
    ending = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    made = of(service(publishNotReadyAddresses=True), pod(ready=False), pod("b", metadata=ending))
    assert len(made["subsets"][0]["addresses"]) == 2


def test_a_slice_tells_of_pods_that_end():
    one = service()
    ending = pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    (made,) = slices_of(one, backends(one, [ending]))
    conditions = {"ready": False, "serving": True, "terminating": True}
    assert made["endpoints"][0]["conditions"] == conditions


def test_headless_services_name_hosts_and_may_have_no_ports():
    one = service(clusterIP="None", ports=[])
    made = of(one, pod(spec={"hostname": "a-0", "subdomain": "shop"}))
    assert made["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    assert made["subsets"][0]["addresses"][0]["hostname"] == "a-0"
    assert "ports" not in made["subsets"][0]


def test_pods_with_other_ports_are_a_subset_of_their_own():
    other = pod(
        "b", "10.1.0.2", spec={"containers": [{"ports": [{"name": "http", "containerPort": 9}]}]}
    )
    made = of(service(), pod(), other)
    assert [s["ports"][0]["port"] for s in made["subsets"]] == [9, 8080]
    one = service()
    assert len(slices_of(one, backends(one, [pod(), other]))) == 2


def test_nobody_is_an_empty_slice():
    (made,) = slices_of(service(), [])
    assert (made["endpoints"], made["addressType"]) == ([], "IPv4")
    owner = made["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["controller"]) == ("Service", True)


def test_selectors_need_every_label():
    assert selects(service(), pod())
    assert not selects(service(selector={"app": "x", "a": "b"}), pod())
    assert not selects(service(selector={}), pod())


@pytest.mark.parametrize("count", [0, 1, 100, 101, MAX_ADDRESSES, 2 * MAX_ADDRESSES + 5])
def test_endpoints_are_bounded_and_slices_hold_everybody(count):
    one = service()
    pods = [pod(f"p{i}", f"10.1.{i // 250}.{i % 250 + 1}", ready=i % 3 > 0) for i in range(count)]
    found = backends(one, pods)
    made = endpoints_of(one, found)
    shown = [
        a
        for s in made.get("subsets", ())
        for key in ("addresses", "notReadyAddresses")
        for a in s.get(key, ())
    ]
    assert len(shown) == min(count, MAX_ADDRESSES)
    assert ("annotations" in made["metadata"]) == (count > MAX_ADDRESSES)
    slices = slices_of(one, found)
    assert sum(len(s["endpoints"]) for s in slices) == count
    assert max(len(s["endpoints"]) for s in slices) <= 100


def test_somebodys_own_endpoints_are_mirrored_unless_they_say_no():
    subset = {
        "addresses": [{"ip": "192.0.2.7", "nodeName": "n1"}, {"ip": "2001:db8::7"}],
        "notReadyAddresses": [{"ip": "192.0.2.8"}],
        "ports": [{"port": 80}],
    }
    own = {"metadata": {"name": "shop", "uid": "u"}, "subsets": [subset]}
    four, six = mirrored_of(own)
    assert (four["addressType"], six["addressType"]) == ("IPv4", "IPv6")
    assert [e["conditions"]["ready"] for e in four["endpoints"]] == [True, False]
    assert four["endpoints"][0]["nodeName"] == "n1"
    assert four["ports"] == [{"name": "", "protocol": "TCP", "port": 80}]
    own["metadata"]["labels"] = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    assert mirrored_of(own) == []
