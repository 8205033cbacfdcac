"""Settings of kubecore: one frozen dataclass per component; unit and reason stand beside each field."""

from __future__ import annotations

from dataclasses import dataclass, field

from corekit.settings import LogSettings


@dataclass(frozen=True)
class ServeSettings:
    """The HTTPS API server; clients are known by certificate only."""

    address: str = "127.0.0.1:6443"
    cert_file: str = "/etc/armadillo/pki/kubecore.crt"
    key_file: str = "/etc/armadillo/pki/kubecore.key"
    client_ca_file: str = "/etc/armadillo/pki/ca.crt"


@dataclass(frozen=True)
class KubeletSettings:
    """How nodes are called back, for logs, exec and the like; without a certificate they are not."""

    client_cert_file: str = ""
    key_file: str = ""
    ca_file: str = ""  # empty: the authorities of this machine


@dataclass(frozen=True)
class StoreSettings:
    """The database behind the API."""

    path: str = "/var/lib/armadillo/kubecore.db"


@dataclass(frozen=True)
class AccountSettings:
    """Service accounts and their tokens."""

    issuer: str = "https://kubernetes.default.svc.cluster.local"
    key_file: str = ""  # empty: service-accounts.key beside the database; made at first start
    root_ca_file: str = ""  # for pods to know this server by; empty: serve.client_ca_file
    # Whether pods are given a token unless they say otherwise, as upstream. Off where pods cannot have volumes.
    mount_tokens: bool = True


@dataclass(frozen=True)
class ControllerSettings:
    """Scheduler and node lifecycle."""

    node_monitor_period_s: float = 5.0  # upstream: 5 s
    node_monitor_grace_s: float = 40.0  # upstream 1.32: a lease of 40 s, then Ready=Unknown
    orphan_grace_s: float = 40.0  # upstream: how long a Node is gone before its pods are


@dataclass(frozen=True)
class KubecoreSettings:
    """All of kubecore's settings."""

    serve: ServeSettings = field(default_factory=ServeSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    kubelet: KubeletSettings = field(default_factory=KubeletSettings)
    accounts: AccountSettings = field(default_factory=AccountSettings)
    controllers: ControllerSettings = field(default_factory=ControllerSettings)
    log: LogSettings = field(default_factory=LogSettings)
