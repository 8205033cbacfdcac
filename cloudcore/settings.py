"""Settings of cloudcore: one frozen dataclass per component; unit and reason stand beside each field."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    heartbeat_s: float = 5.0  # a dead link is noticed within two of these
    window_frames: int = (
        16  # unacknowledged frames per lane: 600 ms of satellite at 64 KiB is 14 Mbit/s
    )


@dataclass(frozen=True)
class DeviceSettings:
    """How device status reaches the Kubernetes API."""

    status_interval_s: float = 1.0  # at most one write per device in this time


@dataclass(frozen=True)
class MetricsSettings:
    """Prometheus endpoint: HTTPS, client certificate required."""

    address: str = ""  # host:port; empty: not served


@dataclass(frozen=True)
class CloudSettings:
    """All of cloudcore's settings."""

    kube: KubeSettings = field(default_factory=KubeSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    devices: DeviceSettings = field(default_factory=DeviceSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    log: LogSettings = field(default_factory=LogSettings)
