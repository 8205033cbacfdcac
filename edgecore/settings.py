"""Settings of edgecore: one frozen dataclass per component; unit and reason stand beside each field."""

from __future__ import annotations

from dataclasses import dataclass, field

from corekit.settings import LogSettings, require_one_of


@dataclass(frozen=True)
class NodeSettings:
    """What the node says of itself."""

    name: str = ""  # must equal the certificate's; empty: the host's name
    address: str = ""  # InternalIP to report; empty: the address that routes to the cloud
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()  # as kubectl writes them: key=value:Effect
    max_pods: int = 110  # upstream kubelet's default


@dataclass(frozen=True)
class HubSettings:
    """The one connection to cloudcore."""

    server: str = "127.0.0.1:10000"  # host:port
    ca_file: str = "/etc/armadillo/pki/ca.crt"
    cert_file: str = "/etc/armadillo/pki/node.crt"
    key_file: str = "/etc/armadillo/pki/node.key"
    backoff_min_s: float = 0.5
    backoff_max_s: float = 30.0  # a site that was cut for a day is back within half a minute


@dataclass(frozen=True)
class StoreSettings:
    """The database that the node boots from."""

    path: str = "/var/lib/armadillo/edge.db"


@dataclass(frozen=True)
class PodSettings:
    """Where pods run and their files lie."""

    runtime: str = "auto"  # auto | cri | process; auto: cri if its socket answers
    cri_socket: str = "/run/containerd/containerd.sock"
    root_dir: str = "/var/lib/armadillo/pods"  # volumes, generated /etc/hosts, process sandboxes
    log_dir: str = "/var/log/pods"
    status_interval_s: float = 10.0  # node status is computed this often, sent when it changed
    lease_interval_s: float = 10.0  # and the lease lasts four of them, as upstream
    node_report_interval_s: float = 300.0  # and sent unchanged this often

    def __post_init__(self) -> None:
        """Refuse an unknown runtime."""
        require_one_of("pods.runtime", self.runtime, ("auto", "cri", "process"))


@dataclass(frozen=True)
class BrokerSettings:
    """The MQTT broker that leaf devices use."""

    url: str = "embedded"  # embedded | mqtt://[user:password@]host:port
    embedded_address: str = "127.0.0.1:1883"  # loopback only: it speaks plain text
    reconnect_max_s: float = 10.0


@dataclass(frozen=True)
class EdgeSettings:
    """All of edgecore's settings."""

    node: NodeSettings = field(default_factory=NodeSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    pods: PodSettings = field(default_factory=PodSettings)
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    log: LogSettings = field(default_factory=LogSettings)
