"""Settings files of the daemons. Plain mappings: their settings classes belong to other programs; tests
check every key here against them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from armadillo.up.certificates import Certificates
from armadillo.up.state import NodeLayout, StateLayout

Tree = dict[str, Any]
# For as many nodes as fit on one machine; one that is taken is passed over.
PROXY_PORTS = 64
# A unix socket's path has 107 characters; a mapper's name of some length goes behind the folder's.
MAX_SOCKET_FOLDER_CHARS = 80


@dataclass(frozen=True)
class NodeChoice:
    """What is decided outside about one node."""

    broker_port: int
    runtime: str  # cri | process
    cri_socket: Path
    address: str


def kubecore_settings(
    layout: StateLayout, certificates: Certificates, port: int, *, mount_tokens: bool
) -> Tree:
    """Return kubecore's settings. Shapes: mount_tokens: whether pods can have the volume of a token."""
    kubelet = certificates.kubelet_client
    return {
        "serve": {
            "address": f"127.0.0.1:{port}",
            "cert_file": str(certificates.kubecore.cert_file),
            "key_file": str(certificates.kubecore.key_file),
            "client_ca_file": str(certificates.ca_file),
        },
        "store": {"path": str(layout.kubecore / "kubecore.db")},
        "kubelet": {
            "client_cert_file": str(kubelet.cert_file),
            "key_file": str(kubelet.key_file),
            "ca_file": str(certificates.ca_file),
        },
        "accounts": {"mount_tokens": mount_tokens},
        "certificates": {
            "ca_cert_file": str(certificates.ca_file),
            "ca_key_file": str(certificates.ca_file.with_name("ca.key")),
        },
    }


def cloudcore_settings(
    certificates: Certificates,
    *,
    kubeconfig: Path,
    hub_port: int,
    metrics_port: int,
    values: Tree,
    proxy_port: int | None,
) -> Tree:
    """Return cloudcore's settings. Shapes: proxy_port: first port of nodes' kubelet API, None: not served."""
    tree: Tree = {
        "kube": {"kubeconfig": str(kubeconfig)},
        "hub": {
            "address": f"127.0.0.1:{hub_port}",
            "cert_file": str(certificates.cloudcore.cert_file),
            "key_file": str(certificates.cloudcore.key_file),
            "client_ca_file": str(certificates.ca_file),
        },
        "metrics": {"address": f"127.0.0.1:{metrics_port}"},
        "values": values,
    }
    if proxy_port is not None:
        tree["nodeproxy"] = {
            "advertise_address": "127.0.0.1",
            "address": "127.0.0.1",
            "port_range": f"{proxy_port}-{proxy_port + PROXY_PORTS - 1}",
            "cert_file": str(certificates.nodeproxy.cert_file),
            "key_file": str(certificates.nodeproxy.key_file),
            "client_ca_file": str(certificates.ca_file),
        }
    return tree


def edgecore_settings(
    node: NodeLayout, certificates: Certificates, *, server: str, choice: NodeChoice
) -> Tree:
    """Return the settings of one node's edgecore. Shapes: server: host:port of cloudcore's hub."""
    pair = certificates.nodes[node.name]
    return {
        "node": {"name": node.name, "address": choice.address},
        "hub": {
            "server": server,
            "ca_file": str(certificates.ca_file),
            "cert_file": str(pair.cert_file),
            "key_file": str(pair.key_file),
            "backoff_max_s": 2.0,  # one machine: there is no herd to spread
        },
        "store": {"path": str(node.database)},
        "pods": {
            "runtime": choice.runtime,
            "cri_socket": str(choice.cri_socket),
            "root_dir": str(node.pods),
            "log_dir": str(node.logs),
            # A trial on somebody's own machine, whose disk may be full of other things: nothing of the trial
            # is ended or thrown away for that.
            "eviction_hard": {"memory.available": "100Mi"},
            "image_gc_high_percent": 100,
            "static_dir": str(node.manifests),
            # There is none here: a Warning on every pod would tell its user nothing that can be mended.
            "cluster_has_dns": False,
        },
        "broker": {"url": "embedded", "embedded_address": f"127.0.0.1:{choice.broker_port}"},
        "dmi": _dmi(node),
    }


def _dmi(node: NodeLayout) -> Tree:
    """Return where mappers register, with the one of simulated devices; without, where the path is too long for it."""
    if len(str(node.dmi_socket.parent)) > MAX_SOCKET_FOLDER_CHARS:
        return {"socket": "", "mappers": []}
    return {"socket": str(node.dmi_socket), "mappers": ["virtual"]}


def write_settings(path: Path, tree: Tree) -> Path:
    """Write `tree` as YAML; return `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = "# Written by `armadillo up` at each start; changes here are lost.\n"
    path.write_text(header + yaml.safe_dump(tree, sort_keys=False))
    return path


def host_address() -> str:
    """Return the address other machines would see; 127.0.0.1 on a machine without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: picks a route, sends nothing
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
