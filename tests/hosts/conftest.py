"""One machine with one installed gateway for all tests here; without `make hosttest` there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.hosts.gateway import Cloud, Gateway
from tests.hosts.machine import Machine


def pytest_collection_modifyitems(items):
    """Mark everything here, and give it the time that an emulated machine needs."""
    for item in items:
        if "tests/hosts" in item.path.as_posix():
            item.add_marker(pytest.mark.hosts)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    """A running gateway, its node Ready, containers in systemd's cgroups."""
    if "HOSTTEST" not in os.environ:
        pytest.skip("needs the machine that `make hosttest` makes")
    folder = tmp_path_factory.mktemp("host")
    machine = Machine(Path(os.environ["HOSTTEST"]), folder / "console.log")
    with Cloud(folder / "cloud", "process") as cloud:
        try:
            machine.start()
            made = Gateway(machine, cloud, folder)
            made.install()
            yield made
        finally:
            machine.stop()
