"""Every certificate of one `armadillo up`, from one local authority."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corekit.pki import Authority, KeyPair


@dataclass(frozen=True)
class Certificates:
    """Key pairs by use; `nodes` by node name."""

    ca_file: Path
    kubecore: KeyPair
    kubelet_client: KeyPair  # of kubecore, which calls nodes back with it
    cloudcore: KeyPair
    admin: KeyPair
    cloudcore_client: KeyPair
    nodeproxy: KeyPair
    nodes: dict[str, KeyPair]


def issue_certificates(folder: Path, nodes: Sequence[str]) -> Certificates:
    """Return all key pairs below `folder`; what is there and still good is kept."""
    authority = Authority(folder, "armadillo")

    def issue(
        name: str,
        common_name: str,
        organizations: tuple[str, ...] = (),
        hosts: tuple[str, ...] = (),
    ) -> KeyPair:
        pair = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
        return authority.issue(pair, common_name, organizations=organizations, hosts=hosts)

    here = ("127.0.0.1", "localhost", socket.gethostname().lower())
    return Certificates(
        ca_file=authority.pair.cert_file,
        kubecore=issue("kubecore", "kubecore", hosts=here),
        # As kubeadm names it. Its rights are those of the role system:kubelet-api-admin, and no more.
        kubelet_client=issue("kubelet-client", "kube-apiserver-kubelet-client"),
        cloudcore=issue("cloudcore", "cloudcore", hosts=here),
        admin=issue("admin", "kubernetes-admin", ("system:masters",)),
        cloudcore_client=issue("cloudcore-client", "armadillo:cloudcore", ("armadillo:cloudcore",)),
        nodeproxy=issue("nodeproxy", "nodeproxy", hosts=here),
        nodes={node: issue(node, f"system:node:{node}", ("system:nodes",)) for node in nodes},
    )
