"""Shared by the tests of the edge store: a path for its database."""

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edge.db"
