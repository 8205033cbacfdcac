"""The short set: every fault of the catalogue once, each with a seed of its own. The long one is `make faults`."""

from __future__ import annotations

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.catalogue.base import CannotError
from tests.faults.runner import run_one

# Long ones have a shorter sibling here.
SHORT = [name for name in FAULTS if name not in ("F26",)]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(150)]


@pytest.mark.parametrize("name", SHORT)
async def test_nothing_acknowledged_is_lost_repeated_or_swapped_under(name, tmp_path):
    try:
        outcome = await run_one(name, seed=1, folder=tmp_path)
    except CannotError as exc:
        pytest.skip(str(exc))
    assert outcome.injected
    assert outcome.verdict.acknowledged
    assert not outcome.verdict.problems, outcome.explain()
