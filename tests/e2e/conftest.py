"""A running `armadillo up` for each runtime of this machine, and the daemons one by one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from armadillo.containerd import missing_parts
from armadillo.up.objects import DEMO_DEVICE, demo_objects
from tests.e2e.cluster import Kubectl, RunningUp, find_kubectl
from tests.e2e.parts import Parts

RUNTIMES = [
    pytest.param("process", id="process"),
    pytest.param("cri", id="cri", marks=pytest.mark.containerd),
]


def pytest_collection_modifyitems(items):
    """Mark everything here, and give it the time that whole processes need."""
    for item in items:
        if "tests/e2e" in item.path.as_posix():
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(scope="session", params=RUNTIMES)
def runtime(request):
    """`process`, then `cri` where this machine has all of it."""
    if find_kubectl() is None:
        pytest.skip("kubectl is not installed")
    if request.param == "cri" and (missing := missing_parts()):
        pytest.skip(f"no containers here: {', '.join(missing)} missing")
    return request.param


@pytest.fixture(scope="session")
def up(runtime, tmp_path_factory):
    """A running `armadillo up` with its demo lamp."""
    running = RunningUp(tmp_path_factory.mktemp("up") / "state", "--runtime", runtime)
    try:
        running.start()
        yield running
    finally:
        running.remove()


@pytest.fixture(scope="session")
def kubectl(up, tmp_path_factory):
    """kubectl on that cluster."""
    return Kubectl(up.state / "kubeconfig", tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def parts(runtime, tmp_path_factory):
    """The daemons one by one, with short leases, a cuttable link and the demo lamp."""
    with Parts(tmp_path_factory.mktemp("parts"), runtime) as running:
        running.kubectl.apply(*demo_objects("edge-1"))
        running.start("lamp")
        yield running


@pytest.fixture
def leaf_device(up):
    """Start leaf devices by name; they end with the test."""
    processes = []
    broker = broker_of(up)

    def start(name):
        command = ["-m", "armadillo.demo_lamp", "--broker", broker, "--device", f"default/{name}"]
        processes.append(subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL))

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)


@pytest.fixture
def lamp_objects():
    """Model and device of a second lamp, as a user's file would hold them."""

    def make(name):
        objects = demo_objects("edge-1")
        for obj in objects:
            obj["metadata"]["name"] = obj["metadata"]["name"].replace(DEMO_DEVICE, name)
        return objects

    return make


def broker_of(up):
    """Return host:port of the broker of edge-1."""
    return f"127.0.0.1:{json.loads((up.state / 'ports.json').read_text())['broker-edge-1']}"
