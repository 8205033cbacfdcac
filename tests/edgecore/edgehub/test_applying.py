"""What goes into one commit: bounded, in order, and nothing behind the end of a resync."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given
from hypothesis import strategies as st

from edgecore.edgehub.applying import MAX_TOGETHER, MAX_TOGETHER_BYTES, take_together
from synccore.edge_session import Converged
from synccore.messages import Delta, Lane, ObjectKey, Op
from synccore.session import Acknowledged, Received

KEY = ObjectKey("Pod", "default", "web")


def frame(size_bytes):
    return Received(Lane.PODS, 1, [Delta(Op.UPSERT, KEY, "u", 1, body=bytes(size_bytes))])


EVENTS = st.one_of(
    st.builds(frame, st.integers(0, 400_000)),
    st.just(Acknowledged(Lane.TWINS, ())),
    st.builds(Converged),
)


@given(st.lists(EVENTS, min_size=1, max_size=150))
def test_everything_is_taken_in_order_in_bounded_groups_that_end_with_converged(events):
    queue = asyncio.Queue()
    for event in events:
        queue.put_nowait(event)
    groups = []
    while not queue.empty():
        groups.append(take_together(queue.get_nowait(), queue))
    assert [event for group in groups for event in group] == events
    for group in groups:
        assert len(group) <= MAX_TOGETHER
        assert not any(isinstance(event, Converged) for event in group[:-1])
        sizes = [len(e.deltas[0].body) for e in group if isinstance(e, Received)]
        assert sum(sizes[:-1]) < MAX_TOGETHER_BYTES
    for group, after in itertools.pairwise(groups):  # and no smaller than they must be
        size_bytes = sum(len(e.deltas[0].body) for e in group if isinstance(e, Received))
        full = len(group) == MAX_TOGETHER or size_bytes >= MAX_TOGETHER_BYTES
        assert full or isinstance(group[-1], Converged), after
