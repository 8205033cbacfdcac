"""Whatever passes the schema passes admission or is refused clearly, and controllers can read what was stored."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubecore.app import admission_steps
from kubecore.controllers.certificates import is_outdated
from kubecore.controllers.endpoint_sets import (
    backends,
    endpoints_of,
    has_selector,
    mirrored_of,
    shrink_pod,
    slices_of,
)
from kubecore.errors import ApiStatusError
from kubecore.kinds.registry import Registry
from kubecore.kinds.shapes import shape_of
from kubecore.objects.operations import Operations, WriteOptions
from kubecore.objects.quotas import QuotaUsage
from kubecore.objects.service_addresses import ServiceAddresses
from kubecore.objects.watching import WatchHub
from kubecore.storage.store import Store
from tests.kubecore.test_certificates import request
from tests.kubecore.test_hostile_input import bodies

KINDS = {
    "": (
        *("pods", "services", "endpoints", "persistentvolumeclaims"),
        *("limitranges", "resourcequotas"),
    ),
    "scheduling.k8s.io": ("priorityclasses",),
    "node.k8s.io": ("runtimeclasses",),
    "discovery.k8s.io": ("endpointslices",),
    "certificates.k8s.io": ("certificatesigningrequests",),
}
PLACES = [(group, plural) for group, plurals in KINDS.items() for plural in plurals]
SENSE = {
    "pods": {"containers": [{"name": "c", "image": "i"}]},
    "services": {"ports": [{"port": 80}], "selector": {"a": "b"}},
    "resourcequotas": {"hard": {"pods": "3", "requests.cpu": "2", "services.nodeports": "1"}},
    "certificatesigningrequests": request("x")["spec"],
}


class Rig:
    """Operations with every step of admission, over one store for all examples."""

    def __init__(self, folder):
        self.loop = asyncio.new_event_loop()
        self.store, self.registry = Store(folder / "kube.db"), Registry()
        network = ipaddress.ip_network("10.96.0.0/28")  # small: it is soon full
        addresses = ServiceAddresses(self.store, network, (30000, 30010))
        self.usage = QuotaUsage(self.store)
        steps = admission_steps(self.store, addresses, self.usage, mount_tokens=True)
        self.operations = Operations(self.store, self.registry, WatchHub(self.store), steps)

    def __enter__(self):
        self.loop.run_until_complete(self.store.__aenter__())
        for plural, name in (("namespaces", "default"), ("serviceaccounts", "default")):
            self.write("", plural, {"metadata": {"name": name}})
        return self

    def __exit__(self, *exc_info):
        self.loop.run_until_complete(self.store.__aexit__())
        self.loop.close()

    def write(self, group, plural, body):
        """Store, or change, an object; return what is stored."""
        resource = self.registry.find(group, "v1", plural)
        place = (resource, "default" if resource.namespaced else "")
        lax = WriteOptions(field_validation="Ignore")
        name = body["metadata"]["name"]
        if self.store.latest(resource.storage_name, place[1], name):
            run = self.operations.update(*place, name, body, lax)
        else:
            run = self.operations.create(*place, body, lax)
        return self.loop.run_until_complete(run).entry.parse()


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with Rig(tmp_path_factory.mktemp("hostile")) as made:
        yield made


def read(rig, plural, obj):
    """What controllers do with stored objects."""
    stored = {p: [e.parse() for e in rig.store.entries(p)] for p in ("pods", "services")}
    match plural:
        case "pods" | "services":
            given = [s["spec"].get("clusterIP") for s in stored["services"]]
            given = [ip for ip in given if ip not in (None, "None")]
            assert len(given) == len(set(given))
            for service in filter(has_selector, stored["services"]):
                found = backends(service, map(shrink_pod, stored["pods"]))
                assert endpoints_of(service, found)["metadata"]
                assert slices_of(service, found)
        case "endpoints":
            mirrored_of(obj)
        case "resourcequotas":
            assert rig.usage.used(obj).keys() == (obj["spec"].get("hard") or {}).keys()
        case "certificatesigningrequests":
            assert base64.b64decode(obj["spec"]["request"])
            is_outdated(obj, 2e9)


@pytest.mark.parametrize(("group", "plural"), PLACES, ids=[plural for _, plural in PLACES])
@pytest.mark.timeout(60)
def test_any_body_is_admitted_or_refused(rig, group, plural):
    resource = rig.registry.find(group, "v1", plural)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(bodies(shape_of(resource.definition)), st.sampled_from(["x", "y"]), st.booleans())
    def takes(body, name, sensible):
        body = {k: v for k, v in body.items() if k not in ("apiVersion", "kind", "metadata")}
        if sensible and plural in SENSE:
            spec = body.get("spec")
            body["spec"] = {**(spec if isinstance(spec, dict) else {}), **SENSE[plural]}
        with suppress(ApiStatusError):
            read(rig, plural, rig.write(group, plural, {**body, "metadata": {"name": name}}))

    takes()
