"""Real parts, started once a session: a containerd of our own with its images and its pod network."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from armadillo.containerd import PodNetwork, PrivateContainerd, missing_parts


@pytest.fixture(scope="session")
def containerd(tmp_path_factory):
    """A running PrivateContainerd; everything it made on the host is taken away again."""
    if missing := missing_parts():
        pytest.skip(f"no private containerd here: missing {', '.join(missing)}")
    number = random.randrange(256)  # so that two test runs on one machine do not share a subnet
    network = PodNetwork(f"armat{os.getpid()}"[:15], f"10.97.{number}.0/24")
    daemon = PrivateContainerd(tmp_path_factory.mktemp("containerd"), network)
    daemon.start()
    daemon.ensure_images()
    yield daemon
    daemon.purge()
    left = [line for line in mounts() if str(daemon.folder) in line]
    assert left == []
    assert not Path("/sys/class/net", network.bridge).exists()


def mounts():
    return Path("/proc/self/mounts").read_text().splitlines()
