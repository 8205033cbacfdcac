"""The short set: every fault of the catalogue once, in 2 minutes. The long one is `make faults`."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.catalogue.base import CannotError
from tests.faults.runner import run_one

# Long ones have a shorter sibling here.
SHORT = [name for name in FAULTS if name not in ("F22-out", "F26")]
# What issue after issue has listed; F14, the storm, is tests/cloudcore/cloudhub/test_storm.py and benchmarks/scale.py.
WANTED = (1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 20, 22, 23, 24, 26)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(150)]


def test_every_fault_that_was_asked_for_is_in_the_short_set():
    assert {name.partition("-")[0] for name in SHORT} == {f"F{number:02}" for number in WANTED}


@pytest.mark.parametrize("name", SHORT)
async def test_nothing_acknowledged_is_lost_repeated_or_swapped_under(name, tmp_path):
    try:
        outcome = await run_one(name, seed=1, folder=tmp_path)
    except CannotError as exc:
        pytest.skip(str(exc))
    assert outcome.injected
    assert outcome.verdict.acknowledged
    assert not outcome.verdict.problems, outcome.explain()
