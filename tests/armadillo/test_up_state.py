"""The state folder: layout, refusal of a full or read-only one, ports that stay."""

from __future__ import annotations

import json
import os
import socket
import subprocess

import pytest

from armadillo.up import state as states
from armadillo.up.errors import UpError
from armadillo.up.network import pod_network, routed_networks
from armadillo.up.ports import claim_ports
from armadillo.up.state import exclusive, node_names, open_state
from corekit.errors import ConfigError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def tmpfs(tmp_path):
    """A tiny filesystem of its own; `remount(options)` changes it."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not let root mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_the_layout_is_the_documented_one(tmp_path):
    layout = open_state(tmp_path / "s")
    node = layout.node("edge-1")
    found = [layout.kubeconfig, layout.pki, layout.logs, layout.ports, node.settings, node.database]
    assert [str(path.relative_to(layout.root)) for path in found] == [
        "kubeconfig",
        "pki",
        "logs",
        "ports.json",
        "nodes/edge-1/edgecore.yaml",
        "nodes/edge-1/edge.db",
    ]
    assert node_names(2) == ["edge-1", "edge-2"]


@needs_root
def test_a_full_state_folder_is_refused_by_name(tmpfs):
    with pytest.raises(ConfigError, match=f"--state {tmpfs}: is full: . MiB free, needs 64 MiB"):
        open_state(tmpfs)


@needs_root
def test_a_read_only_state_folder_is_refused_by_name(tmpfs):
    subprocess.run(["mount", "-o", "remount,ro,size=128m", str(tmpfs)], check=True)
    with pytest.raises(ConfigError, match=f"--state {tmpfs}: cannot be used: Read-only"):
        open_state(tmpfs)


def test_a_file_in_place_of_the_state_folder_is_refused_by_name(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ConfigError, match="file: cannot be used"):
        open_state(path)


def test_a_path_too_long_for_a_socket_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="longer than"):
        open_state(tmp_path / ("x" * states.MAX_PATH_BYTES))


def test_the_lock_is_free_again_after_its_holder(tmp_path):
    layout = open_state(tmp_path)
    with exclusive(layout):
        pass
    with exclusive(layout):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_ports_are_remembered_and_new_names_get_new_ports(tmp_path):
    path = tmp_path / "ports.json"
    first = claim_ports(path, ["kubecore", "cloudcore"])
    second = claim_ports(path, ["kubecore", "cloudcore", "broker-edge-1"])
    assert {name: second[name] for name in first} == first
    assert len(set(second.values())) == 3


def test_a_taken_port_is_named(tmp_path):
    path = tmp_path / "ports.json"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        path.write_text(json.dumps({"kubecore": port}))
        with pytest.raises(UpError, match=f"port {port} of kubecore is taken"):
            claim_ports(path, ["kubecore"])


@pytest.mark.parametrize("content", ["{", "[]", '{"kubecore": "x"}', '{"kubecore": 70000}'])
def test_a_damaged_ports_file_is_named(tmp_path, content):
    path = tmp_path / "ports.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"ports\.json"):
        claim_ports(path, ["kubecore"])


def test_a_pod_network_is_remembered_and_fits_an_interface_name(tmp_path):
    path = tmp_path / "network.json"
    network = pod_network(path, tmp_path)
    assert len(network.bridge) <= 15
    assert pod_network(path, tmp_path / "elsewhere") == network


def test_routes_are_read_as_networks(tmp_path):
    table = tmp_path / "route"
    table.write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
        "eth0\t00000000\t0100580A\t0003\t0\t0\t0\t00000000\n"
        "cni0\t0003580A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
    )
    assert [str(network) for network in routed_networks(table)] == ["10.88.3.0/24"]
