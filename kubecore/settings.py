"""Settings of kubecore: one frozen dataclass per component; unit and reason stand beside each field."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from corekit.errors import SETTINGS, ConfigError
from corekit.settings import LogSettings

MIN_ADDRESSES = 8
MIN_CERTIFICATE_S = 600


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
class ServiceSettings:
    """The addresses and ports that services are given."""

    cluster_ip_range: str = (
        "10.96.0.0/12"  # upstream's (kubeadm); must not be anybody's real network
    )
    node_port_range: str = "30000-32767"  # upstream's
    # At which address the pods' `default/kubernetes` leads here; empty: where kubecore listens, and if that is
    # loopback, nowhere.
    advertise_address: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no range, or too small for a cluster."""
        network, (first, last) = self.network(), self.node_ports()
        if network.num_addresses < MIN_ADDRESSES:
            problem = f"{self.cluster_ip_range} has less than {MIN_ADDRESSES} addresses"
            raise ConfigError(SETTINGS, "services.cluster_ip_range", problem)
        if not 0 < first <= last < 1 << 16:
            problem = f"{self.node_port_range!r} is not FIRST-LAST, two ports"
            raise ConfigError(SETTINGS, "services.node_port_range", problem)
        if self.advertise_address:
            try:
                ipaddress.ip_address(self.advertise_address)
            except ValueError as exc:
                raise ConfigError(SETTINGS, "services.advertise_address", str(exc)) from exc

    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """Return the range of cluster IPs. Raises:  ConfigError."""
        try:
            return ipaddress.ip_network(self.cluster_ip_range)
        except ValueError as exc:
            raise ConfigError(SETTINGS, "services.cluster_ip_range", str(exc)) from exc

    def node_ports(self) -> tuple[int, int]:
        """Return the first and the last port. Raises:  ConfigError."""
        ends = [end.strip() for end in self.node_port_range.split("-")]
        if len(ends) != 2 or not all(end.isascii() and end.isdigit() for end in ends):
            problem = f"{self.node_port_range!r} is not FIRST-LAST, two ports"
            raise ConfigError(SETTINGS, "services.node_port_range", problem)
        return int(ends[0][:6]), int(ends[1][:6])


@dataclass(frozen=True)
class CertificateSettings:
    """Who signs approved CertificateSigningRequests; without a key they stay approved, and are not issued."""

    # The authority of clients (`serve.client_ca_file` must hold it, or nobody believes what it signed).
    ca_cert_file: str = ""
    ca_key_file: str = ""
    duration_s: int = 365 * 86_400  # upstream: a year; a request may ask for less

    def __post_init__(self) -> None:
        """Refuse half a key pair, and what no request could ask for."""
        if bool(self.ca_cert_file) != bool(self.ca_key_file):
            problem = "ca_cert_file and ca_key_file belong together"
            raise ConfigError(SETTINGS, "certificates.ca_key_file", problem)
        if self.duration_s < MIN_CERTIFICATE_S:
            problem = f"{self.duration_s} is less than {MIN_CERTIFICATE_S} s"
            raise ConfigError(SETTINGS, "certificates.duration_s", problem)


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
    services: ServiceSettings = field(default_factory=ServiceSettings)
    certificates: CertificateSettings = field(default_factory=CertificateSettings)
    controllers: ControllerSettings = field(default_factory=ControllerSettings)
    log: LogSettings = field(default_factory=LogSettings)
