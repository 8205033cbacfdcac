"""A node holds the claims of its pods and, once they are bound, the volumes behind them."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from cloudcore.edgecontroller.claims import ClaimedVolumes
from cloudcore.edgecontroller.references import CLAIM, VOLUME, Placement
from synccore.messages import ObjectKey
from tests.cloudcore.edgecontroller.test_controller import Session, key, named, pod
from tests.fakes.kubeapi import until


def claim(name, volume=None):
    return named(name, spec={"volumeName": volume} if volume else {})


def volume(name):
    return {"metadata": {"name": name}, "spec": {"local": {"path": f"/disks/{name}"}}}


def mounting(name, node, *claims, ephemeral=()):
    obj = pod(name, node)
    obj["spec"]["volumes"] = [
        {"name": f"v{n}", "persistentVolumeClaim": {"claimName": c}} for n, c in enumerate(claims)
    ] + [{"name": e, "ephemeral": {"volumeClaimTemplate": {}}} for e in ephemeral]
    return obj


async def test_a_bound_claim_brings_its_volume_and_both_leave_with_the_pod(api, cloud):
    api.put("persistentvolumes", volume("disk"))
    api.put("persistentvolumes", volume("other"))
    api.put("persistentvolumeclaims", claim("data", "disk"))
    api.put("persistentvolumeclaims", claim("unused", "other"))
    api.put("pods", mounting("web", "edge-1", "data"))
    session = Session(cloud)
    await session.holds("Pod web", f"{CLAIM} data", f"{VOLUME} disk")
    order = [k.kind for k in session.told]
    assert order.index("Pod") > max(order.index(CLAIM), order.index(VOLUME))
    api.remove("pods", "default", "web")
    await session.holds()


async def test_a_claim_that_is_bound_later_brings_its_volume_then(api, cloud):
    api.put("persistentvolumeclaims", claim("data"))
    api.put("pods", mounting("web", "edge-1", "data"))
    session = Session(cloud)
    await session.holds("Pod web", f"{CLAIM} data")
    api.put("persistentvolumes", volume("disk"))
    api.put("persistentvolumeclaims", claim("data", "disk"))
    await session.holds("Pod web", f"{CLAIM} data", f"{VOLUME} disk")
    assert session.view.read(ObjectKey(VOLUME, "", "disk")) is not None


async def test_a_volume_stays_while_a_second_pod_uses_it(api, cloud):
    api.put("persistentvolumes", volume("disk"))
    api.put("persistentvolumeclaims", claim("data", "disk"))
    for name in ("a", "b"):
        api.put("pods", mounting(name, "edge-1", "data"))
    session = Session(cloud)
    await session.holds("Pod a", "Pod b", f"{CLAIM} data", f"{VOLUME} disk")
    session.told.clear()
    api.remove("pods", "default", "a")
    await session.holds("Pod b", f"{CLAIM} data", f"{VOLUME} disk")
    assert {k.kind for k in session.told} == {"Pod"}


async def test_an_ephemeral_volume_is_the_claim_named_after_pod_and_volume(api, cloud):
    api.put("pods", mounting("web", "edge-1", ephemeral=["scratch"]))
    session = Session(cloud)
    await session.holds("Pod web")
    api.put("persistentvolumeclaims", claim("web-scratch"))
    await session.holds("Pod web", f"{CLAIM} web-scratch")


async def test_claims_of_other_nodes_are_never_fetched(api, cloud):
    api.put("persistentvolumes", volume("disk"))
    api.put("persistentvolumeclaims", claim("data", "disk"))
    api.put("pods", mounting("db", "cloud-1", "data"))
    api.put("pods", pod("marker", "edge-1"))
    await until(lambda: cloud.controller._pods.get(key("Pod", "db")))
    session = Session(cloud)
    await session.holds("Pod marker")
    await asyncio.sleep(0.05)
    assert not [s for s in api.sent("get") if "persistent" in s.path]


OWNERS = [ObjectKey("Pod", "default", name) for name in "abc"]
CLAIMS = [ObjectKey(CLAIM, "default", name) for name in "xyz"]
VOLUMES = [ObjectKey(VOLUME, "", name) for name in "12"]
PLACE = st.tuples(st.sampled_from(OWNERS), st.none() | st.frozensets(st.sampled_from(CLAIMS)))
BIND = st.tuples(st.sampled_from(CLAIMS), st.none() | st.sampled_from(VOLUMES))


@given(st.lists(PLACE | BIND, max_size=20))
def test_whatever_happens_in_which_order_placements_follow_from_the_last_of_each(steps):
    subject, known, refers, volumes = ClaimedVolumes(), {}, {}, {}
    for what, value in steps:
        if what in CLAIMS:
            if any(what in r for r in refers.values()):
                volumes[what] = value
            known |= {o: p.refers for o, p in subject.bind(what, value).items()}
        else:
            refers[what] = value or frozenset()
            placement = None if value is None else Placement("edge-1", value)
            placed = subject.place(what, placement)
            known[what] = placed.refers if placed else frozenset()
            for gone in set(volumes) - set().union(*refers.values()):
                del volumes[gone]
        for owner, claims in refers.items():
            bound = {volumes[c] for c in claims if volumes.get(c)}
            assert known[owner] == claims | bound
