"""Who waits for what: whoever is released is released once, and nothing is left behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloudcore.edgecontroller.heldback import HeldBack

NAMES = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), st.integers(0, 9), st.sets(NAMES, min_size=1)),
        st.tuples(st.just("settle"), NAMES),
        st.tuples(st.just("release"), st.integers(0, 9)),
    ),
    max_size=30,
)


@given(STEPS)
def test_an_owner_waits_until_all_its_keys_are_settled_or_it_is_released(steps):
    held, model = HeldBack(), {}
    for step in steps:
        match step:
            case ("hold", owner, keys) if owner not in model:
                held.hold(owner, keys)
                model[owner] = set(keys)
            case ("settle", key):
                free = held.settle(key)
                for keys in model.values():
                    keys.discard(key)
                assert set(free) == {owner for owner, keys in model.items() if not keys}
                model = {owner: keys for owner, keys in model.items() if keys}
            case ("release", owner):
                assert held.release(owner) == (model.pop(owner, None) is not None)
    assert all(held.holds(owner) for owner in model)
    assert {key for key in "abcd" if held.awaits(key)} == set().union(*model.values())
