"""Fixtures for every test: both twins of the codec, and the switch for machines without the extension."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

# No time is asserted: a machine that does other work is no failure. Each test has its fuse.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")
# Under the sanitizers everything is several times slower, and a run is one of many: no deadline, nothing kept.
settings.register_profile("asan", deadline=None, database=None, max_examples=200)

COMPILED = pytest.param("synccore._codec", id="compiled", marks=pytest.mark.compiled)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--purepy", action="store_true", help="deselect tests of the compiled codec")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marks = {"compiled"} if config.getoption("--purepy") else set()
    gone = [item for item in items if marks & {mark.name for mark in item.iter_markers()}]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(scope="session", params=[COMPILED, pytest.param("synccore._codec_py", id="purepy")])
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return import_module(request.param)
