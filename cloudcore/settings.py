"""Settings of cloudcore: one frozen dataclass per component; unit and reason stand beside each field."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from corekit.errors import SETTINGS, ConfigError
from corekit.settings import LogSettings


@dataclass(frozen=True)
class KubeSettings:
    """How to reach the Kubernetes API."""

    kubeconfig: str = ""  # empty: in-cluster service account, else $KUBECONFIG
    page_size: int = 500  # objects per list page, as kubectl
    backoff_min_s: float = 0.8  # client-go's reflector: 0.8 to 30 s
    backoff_max_s: float = 30.0


@dataclass(frozen=True)
class HubSettings:
    """The one port that edge nodes dial."""

    address: str = "0.0.0.0:10000"
    cert_file: str = "/etc/armadillo/pki/cloudcore.crt"
    key_file: str = "/etc/armadillo/pki/cloudcore.key"
    client_ca_file: str = "/etc/armadillo/pki/ca.crt"
    handshake_timeout_s: float = 30.0  # of TLS: some round trips of 2 s, with losses
    heartbeat_s: float = 5.0  # a dead link is noticed within two of these
    window_frames: int = (
        16  # unacknowledged frames per lane: 600 ms of satellite at 64 KiB is 14 Mbit/s
    )
    # Joins; above it nodes are told when to come back. One costs 3 ms of a core with TLS, and 5,000 are in
    # within half a minute.
    admit_per_s: float = 300.0
    admit_burst: int = 300  # what may come in at once after a quiet time

    def __post_init__(self) -> None:
        """Refuse a rate that lets nobody in."""
        if not self.admit_per_s > 0:
            raise ConfigError(SETTINGS, "hub.admit_per_s", f"{self.admit_per_s} is not above 0")
        if self.admit_burst < 1:
            raise ConfigError(SETTINGS, "hub.admit_burst", f"{self.admit_burst} is not above 0")


@dataclass(frozen=True)
class DeviceSettings:
    """How device status reaches the Kubernetes API."""

    status_interval_s: float = 1.0  # at most one write per device in this time
    # Whether a DeviceStatus beside each Device repeats its status, as KubeEdge has it: as many writes again.
    device_statuses: bool = True


@dataclass(frozen=True)
class ValueSettings:
    """The gRPC service that hands every value of devices to programs; who may see which: the cluster's RBAC."""

    address: str = ""  # host:port, for callers with client certificates; empty: not served
    # host:port, for callers with bearer tokens; empty: not served. gRPC asks each caller of a port for a certificate
    # or none of them, so it cannot be the same.
    token_address: str = ""
    cert_file: str = ""  # empty: the hub's, as below
    key_file: str = ""
    # Whose client certificates name users of the cluster: the authority of its client certificates.
    client_ca_file: str = ""
    # Folder for the values that devices' `history` asks to keep; empty: in memory, gone at each restart.
    history_dir: str = ""
    # Of them all; full: the oldest of the property that takes the most go. A week of 40 values a second, at 40 bytes.
    history_max_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        """Refuse a history that would hold nothing."""
        if self.history_max_bytes < 1 << 20:
            problem = f"{self.history_max_bytes} is below {1 << 20}"
            raise ConfigError(SETTINGS, "values.history_max_bytes", problem)


@dataclass(frozen=True)
class MqttSinkSettings:
    """A broker of the operator's that gets every value and message; who reads there is that broker's business."""

    url: str = ""  # mqtt[s]://[user:password@]host[:port]; empty: none
    prefix: str = "armadillo/values"  # topic: PREFIX/<namespace>/<name>
    # Of what programs at the edge upload: PREFIX/<node>/<topic at the edge>
    messages_prefix: str = "armadillo/messages"


@dataclass(frozen=True)
class MetricsSettings:
    """Prometheus endpoint: HTTPS, client certificate required."""

    address: str = ""  # host:port; empty: not served


@dataclass(frozen=True)
class NodeProxySettings:
    """The kubelet's HTTPS API of each connected node, for the API server: logs, exec, port-forward, statistics."""

    # How the API server reaches this cloudcore: an IP address. Published as the first InternalIP of each
    # connected node. Empty: nothing is served.
    advertise_address: str = ""
    address: str = "0.0.0.0"  # noqa: S104 - IP address to bind
    port_range: str = "20000-24999"  # one port per node; below the range of ephemeral ports
    cert_file: str = "/etc/armadillo/pki/nodeproxy.crt"  # must name advertise_address
    key_file: str = "/etc/armadillo/pki/nodeproxy.key"
    client_ca_file: str = (
        "/etc/armadillo/pki/ca.crt"  # of the API server's kubelet client certificate
    )

    def __post_init__(self) -> None:
        """Refuse what is no address or no range."""
        for key, value in (
            ("advertise_address", self.advertise_address),
            ("address", self.address),
        ):
            if value or key == "address":
                _require_ip(f"nodeproxy.{key}", value)
        first, last = self.ports
        if not 1 <= first <= last <= 65535:
            problem = f"{self.port_range!r} is not FIRST-LAST within 1-65535"
            raise ConfigError(SETTINGS, "nodeproxy.port_range", problem)

    @property
    def ports(self) -> tuple[int, int]:
        """First and last port."""
        first, _, last = self.port_range.partition("-")
        if not (first.isdecimal() and last.isdecimal() and len(self.port_range) < 16):
            return 0, 0
        return int(first), int(last)


def _require_ip(key: str, text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError as exc:
        raise ConfigError(SETTINGS, key, f"{text!r} is not an IP address") from exc


@dataclass(frozen=True)
class CloudSettings:
    """All of cloudcore's settings."""

    kube: KubeSettings = field(default_factory=KubeSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    nodeproxy: NodeProxySettings = field(default_factory=NodeProxySettings)
    devices: DeviceSettings = field(default_factory=DeviceSettings)
    values: ValueSettings = field(default_factory=ValueSettings)
    mqtt_sink: MqttSinkSettings = field(default_factory=MqttSinkSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    log: LogSettings = field(default_factory=LogSettings)
