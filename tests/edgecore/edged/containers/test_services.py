"""The variables of services, as kubelet writes them."""

from __future__ import annotations

from edgecore.edged.containers.services import Service, ServicePort, service_variables
from edgecore.edged.containers.services import _Metadata as Metadata
from edgecore.edged.containers.services import _Spec as Spec


def service(name, *ports, namespace="shop", address="10.96.0.7"):
    made = tuple(ServicePort(*port) for port in ports)
    return Service(Metadata(name, namespace), Spec(address, made))


def of(*services, linked=True):
    return service_variables(services, "shop", linked=linked)


def test_a_service_of_one_port():
    assert of(service("redis-primary", (6379,))) == {
        "REDIS_PRIMARY_SERVICE_HOST": "10.96.0.7",
        "REDIS_PRIMARY_SERVICE_PORT": "6379",
        "REDIS_PRIMARY_PORT": "tcp://10.96.0.7:6379",
        "REDIS_PRIMARY_PORT_6379_TCP": "tcp://10.96.0.7:6379",
        "REDIS_PRIMARY_PORT_6379_TCP_PROTO": "tcp",
        "REDIS_PRIMARY_PORT_6379_TCP_PORT": "6379",
        "REDIS_PRIMARY_PORT_6379_TCP_ADDR": "10.96.0.7",
    }


def test_named_ports_and_other_protocols_have_variables_of_their_own():
    found = of(service("dns", (53, "dns-udp", "UDP"), (9153, "metrics", "TCP"), address="fd00::7"))
    assert found["DNS_SERVICE_PORT"] == "53"
    assert found["DNS_SERVICE_PORT_DNS_UDP"] == "53"
    assert found["DNS_SERVICE_PORT_METRICS"] == "9153"
    assert found["DNS_PORT"] == "udp://[fd00::7]:53"
    assert found["DNS_PORT_9153_TCP"] == "tcp://[fd00::7]:9153"
    assert found["DNS_PORT_53_UDP_PROTO"] == "udp"


def test_without_links_only_the_api_server_is_told():
    services = service("db", (80,)), service("kubernetes", (443,), namespace="default")
    assert {name.split("_")[0] for name in of(*services, linked=False)} == {"KUBERNETES"}
    assert {name.split("_")[0] for name in of(*services)} == {"KUBERNETES", "DB"}


def test_the_namespaces_own_service_of_the_api_servers_name_goes_first():
    own = service("kubernetes", (1,), address="10.96.0.9")
    master = service("kubernetes", (443,), namespace="default")
    assert of(master, own)["KUBERNETES_SERVICE_HOST"] == "10.96.0.9"
    assert of(own, master)["KUBERNETES_SERVICE_HOST"] == "10.96.0.9"


def test_services_without_address_or_of_other_namespaces_have_none():
    strangers = service("a", (80,), namespace="other"), service("kubernetes", (1,), namespace="x")
    assert of(service("headless", (80,), address="None"), service("none"), *strangers) == {}
