from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from edgecore.edged.admission.demands import Demands
from edgecore.edged.eviction.ranking import (
    ContainerUse,
    PodUse,
    VolumeUse,
    over_own_limits,
    ranked,
    starved_message,
)
from edgecore.edged.thresholds import Observation, Threshold

MEMORY = "memory.available"


def pod(uid, used=0, request=0, priority=0, **fields):
    demands = Demands(uid, uid, "default", {"memory": Decimal(request)}, priority=priority)
    container = ContainerUse("app", memory=used, memory_request=Decimal(request))
    return PodUse(demands, [container], **fields)


def order(*pods, signal=MEMORY, own=False):
    return [p.demands.uid for p in ranked(pods, signal, own_image_disk=own)]


def test_who_uses_more_than_it_asked_for_goes_first_however_important():
    assert order(pod("a", 50, 100), pod("b", 150, 100, priority=9)) == ["b", "a"]


def test_then_the_less_important_then_who_is_further_over():
    pods = [pod("a", 500, 100, priority=5), pod("b", 150, 100), pod("c", 400, 100)]
    assert order(*pods) == ["c", "b", "a"]


def test_on_a_disk_of_its_own_only_what_lies_there_counts():
    layers = PodUse(Demands("layers", "p", "d"), [ContainerUse("app", layer=900)])
    logs = PodUse(Demands("logs", "p", "d"), [ContainerUse("app", logs=500)])
    assert order(layers, logs, signal="nodefs.available", own=True) == ["logs", "layers"]
    assert order(layers, logs, signal="imagefs.available", own=True) == ["layers", "logs"]
    assert order(layers, logs, signal="nodefs.available") == ["layers", "logs"]


def test_the_message_names_what_was_short_and_who_took_it():
    threshold = Threshold(MEMORY, Decimal(100 << 20))
    seen = {MEMORY: Observation(50 << 20, 1 << 30)}
    assert starved_message(pod("a", 300 << 20, 64 << 20), threshold, seen) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container app was using 300Mi, request is 64Mi, has larger consumption of memory. "
    )


def test_a_pod_over_its_own_limits_is_named_with_the_limit():
    def verdicts(use):
        return [v.message for v in over_own_limits([use], own_image_disk=False)]

    demands = Demands("u", "p", "d")
    cache = VolumeUse("cache", 11 << 20, Decimal(10 << 20), limit_text="10Mi")
    assert verdicts(PodUse(demands, volumes=[cache])) == [
        'Usage of EmptyDir volume "cache" exceeds the limit "10Mi". '
    ]
    greedy = ContainerUse("app", layer=8 << 20, logs=3 << 20, storage_limit=Decimal(10 << 20))
    assert verdicts(PodUse(demands, [greedy])) == [
        'Container app exceeded its local ephemeral storage limit "10Mi". '
    ]
    assert verdicts(PodUse(demands, [greedy], storage_limit=Decimal(10 << 20))) == [
        "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "
    ]
    assert over_own_limits([PodUse(demands, [greedy])], own_image_disk=True) == []
    critical = Demands("u", "p", "d", priority=2_000_000_000)
    assert verdicts(PodUse(critical, [greedy])) == []


pods = st.lists(
    st.builds(
        pod,
        st.integers(0, 10**6).map(str),
        st.integers(0, 100),
        st.integers(0, 100),
        st.sampled_from([-1, 0, 1000]),
    ),
    max_size=8,
    unique_by=lambda p: p.demands.uid,
)


@given(pods)
def test_the_order_is_total_and_never_puts_the_modest_before_the_greedy(uses):
    found = ranked(uses, MEMORY, own_image_disk=False)
    assert sorted(p.demands.uid for p in found) == sorted(p.demands.uid for p in uses)
    over = [p.memory > p.demands.requests["memory"] for p in found]
    assert over == sorted(over, reverse=True)
    assert found == ranked(list(reversed(uses)), MEMORY, own_image_disk=False)
