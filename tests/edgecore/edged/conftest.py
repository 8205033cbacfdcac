from __future__ import annotations

import pytest

from tests.fakes.edge import Edge


@pytest.fixture
def clock():
    class Clock:
        now_s = 1_790_000_000.0

        def __call__(self):
            return self.now_s

    return Clock()


@pytest.fixture
def edge(tmp_path, clock):
    # With a cluster DNS: without one every pod is told of that by an Event.
    return Edge(tmp_path, clock, settings={"cluster_dns": ("10.96.0.10",)})
