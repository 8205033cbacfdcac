"""Settings of edgecore: one frozen dataclass per component; unit and reason stand beside each field."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from corekit.settings import LogSettings, require_one_of

# Two of the largest entry: a bound below that could never hold one.
MIN_OUTBOX_BYTES = 4 << 20


def _require_address(key: str, text: str) -> None:
    try:
        ip_address(text)
    except ValueError as exc:
        raise ValueError(f"{key}: {text!r} is not an IP address") from exc


@dataclass(frozen=True)
class NodeSettings:
    """What the node says of itself."""

    name: str = ""  # must equal the certificate's; empty: the host's name
    address: str = ""  # InternalIP to report; empty: the address that routes to the cloud
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()  # as kubectl writes them: key=value:Effect
    max_pods: int = 110  # upstream kubelet's default
    extended_resources: dict[str, str] = field(
        default_factory=dict
    )  # what pods may ask for by name, as example.com/relay: "4"


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
class OutboxPolicySettings:
    """What gives way, per lane, when log entries that wait for the cloud reach their bound.

    reject: the newest are refused, and who made them is told; drop-oldest; thin: every second of each key, the
    oldest first. States have no bound of their own: only the newest of each key waits.
    """

    control: str = "reject"
    pods: str = "reject"
    twins: str = "thin"  # a day of readings with less detail is worth more than its last hour
    samples: str = "drop-oldest"

    def __post_init__(self) -> None:
        """Refuse an unknown policy."""
        for lane, policy in vars(self).items():
            allowed = ("reject", "drop-oldest", "thin")
            require_one_of(f"store.outbox_policy.{lane}", policy, allowed)


@dataclass(frozen=True)
class StoreSettings:
    """The database that the node boots from."""

    path: str = "/var/lib/armadillo/edge.db"
    # Log entries of one lane that wait for the cloud: with four lanes a quarter of the smallest disk (1 GiB)
    # that runs pods at all, and a day of 5 entries a second of 150 bytes.
    outbox_max_bytes: int = 64 << 20
    outbox_max_age_s: float = (
        7 * 86400.0
    )  # a week without a link; older than that nobody waits for it
    outbox_policy: OutboxPolicySettings = field(default_factory=OutboxPolicySettings)

    def __post_init__(self) -> None:
        """Refuse bounds that one entry (2 MiB at most) could not meet."""
        if self.outbox_max_bytes < MIN_OUTBOX_BYTES:
            raise ValueError(f"store.outbox_max_bytes: less than {MIN_OUTBOX_BYTES}")
        if self.outbox_max_age_s <= 0:
            raise ValueError("store.outbox_max_age_s: not more than 0")


@dataclass(frozen=True)
class MetricsSettings:
    """Prometheus' text format over HTTP on a unix socket of mode 0600: `curl --unix-socket PATH http://edge/metrics`."""

    socket: str = ""  # path; empty: not served


@dataclass(frozen=True)
class PodSettings:
    """Where pods run and their files lie."""

    runtime: str = "auto"  # auto | cri | process; auto: cri if its socket answers
    cri_socket: str = "/run/containerd/containerd.sock"
    root_dir: str = "/var/lib/armadillo/pods"  # volumes, generated /etc/hosts, process sandboxes
    log_dir: str = "/var/log/pods"
    container_log_max_size: str = "10Mi"  # a log this big is put aside, as upstream
    container_log_max_files: int = 5  # of one container, the one in use counted
    container_log_period_s: float = 10.0  # between two looks at all logs
    # Links to all logs, for log shippers: a folder, "" for none; auto: /var/log/containers beside /var/log/pods.
    container_log_links: str = "auto"
    serialize_image_pulls: bool = True  # one pull at a time on the node, as upstream
    max_parallel_image_pulls: int = 0  # if not one at a time; 0: no limit
    # Programs that give credentials for registries: a CredentialProviderConfig (kubelet.config.k8s.io/v1), and the
    # one folder from which they are run, as kubelet's flags of these names. Empty: there are none.
    image_credential_provider_config: str = ""
    image_credential_provider_bin_dir: str = ""
    # Images go, the longest unused first, when their disk is fuller than the high mark, down to the low one;
    # a high mark of 100 switches that off.
    image_gc_high_percent: int = 85
    image_gc_low_percent: int = 80
    image_min_gc_age_s: float = 120.0  # no image younger than this goes
    image_max_gc_age_s: float = 0.0  # one that is unused for longer goes in any case; 0: no limit
    image_gc_period_s: float = 300.0
    max_dead_containers_per_container: int = 1  # kept of each container of a pod, for its logs
    max_dead_containers: int = -1  # kept on the whole node; negative: no limit
    container_gc_min_age_s: float = 0.0  # no container that ended later than this goes
    cluster_dns: tuple[
        str, ...
    ] = ()  # addresses of the cluster's DNS, as pods of this node reach it
    # False: this cluster has no DNS at all, and that is known. ClusterFirst then means Default, without the
    # Warning that a DNS whose address nobody gave is worth.
    cluster_has_dns: bool = True
    cluster_domain: str = "cluster.local"  # upstream's default
    resolv_conf: str = "/etc/resolv.conf"  # what pods of dnsPolicy Default get
    # Kernel parameters beyond the safe ones that pods may set in their own namespaces; `net.core.*` is a prefix.
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    seccomp_dir: str = "/var/lib/kubelet/seccomp"  # Localhost profiles; tools for them write there
    # Below it lies `kubepods`, with a cgroup per class of service and pod; none: containers lie where the runtime
    # puts them, and a pod as a whole has no limit.
    cgroup_root: str = "/"
    cgroup_driver: str = "auto"  # auto | cgroupfs | systemd; auto: as the runtime says
    pids_limit: int = 0  # processes and threads of one pod; 0: as many as the machine has
    # Paths of the node that pods may see (hostPath, local volumes), with all below them; "/" is everything, as
    # upstream's kubelet has it. Links are followed before a path is judged.
    allowed_host_paths: tuple[str, ...] = ("/",)
    static_dir: str = "/etc/armadillo/manifests"  # pods of the node's own; it need not exist
    # What pods may not use, by resource (cpu, memory, ephemeral-storage, hugepages): the system's, and this agent's.
    system_reserved: dict[str, str] = field(default_factory=dict)
    kube_reserved: dict[str, str] = field(default_factory=dict)
    # Pods are ended when less than this is left, as kubelet's defaults; an amount, or a part of the whole.
    # Signals: memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree,
    # pid.available. A setting here replaces them all. allocatableMemory.available, what all pods together may still
    # use, has the threshold of memory.available if it is not given one.
    eviction_hard: dict[str, str] = field(
        default_factory=lambda: {
            "memory.available": "100Mi",
            "nodefs.available": "10%",
            "nodefs.inodesFree": "5%",
            "imagefs.available": "15%",
            "imagefs.inodesFree": "5%",
        }
    )
    eviction_soft: dict[str, str] = field(default_factory=dict)  # ended later, and more gently
    eviction_soft_grace_s: dict[str, float] = field(
        default_factory=dict
    )  # how much later, by signal
    eviction_max_pod_grace_s: float = 0.0  # of a pod ended by a soft threshold
    eviction_pressure_transition_s: float = (
        300.0  # a condition holds this long after it was last seen
    )
    eviction_period_s: float = 10.0  # between two looks
    status_interval_s: float = 10.0  # node status is computed this often, sent when it changed
    lease_interval_s: float = 10.0  # and the lease lasts four of them, as upstream
    node_report_interval_s: float = 300.0  # and sent unchanged this often
    disk_use_interval_s: float = (
        60.0  # folders of pods are measured again this often, as kubelet's volumes
    )

    def __post_init__(self) -> None:
        """Refuse an unknown runtime."""
        require_one_of("pods.runtime", self.runtime, ("auto", "cri", "process"))
        if self.container_log_max_files < 2:
            raise ValueError("pods.container_log_max_files: less than 2")
        if bool(self.image_credential_provider_config) != bool(
            self.image_credential_provider_bin_dir
        ):
            raise ValueError(
                "pods.image_credential_provider_config, image_credential_provider_bin_dir: "
                "one needs the other"
            )
        low, high = self.image_gc_low_percent, self.image_gc_high_percent
        if not 0 <= low < high <= 100:
            raise ValueError(
                f"pods.image_gc_low_percent, image_gc_high_percent: {low} and {high} are not "
                "a lower and a higher one of 0 to 100"
            )
        drivers = ("auto", "cgroupfs", "systemd")
        require_one_of("pods.cgroup_driver", self.cgroup_driver, drivers)
        if self.cgroup_root != "none" and (
            not self.cgroup_root.startswith("/") or ".." in self.cgroup_root.split("/")
        ):
            raise ValueError("pods.cgroup_root: neither none nor an absolute path")
        if self.pids_limit < 0:
            raise ValueError("pods.pids_limit: less than 0")
        for number, address in enumerate(self.cluster_dns):
            _require_address(f"pods.cluster_dns[{number}]", address)
        if self.cluster_dns and not self.cluster_has_dns:
            raise ValueError("pods.cluster_has_dns: false, but pods.cluster_dns has an address")
        for path in self.allowed_host_paths:
            if not path.startswith("/") or ".." in path.split("/"):
                raise ValueError(f"pods.allowed_host_paths: {path!r} is not absolute, or has '..'")


@dataclass(frozen=True)
class BrokerSettings:
    """The MQTT broker that leaf devices use."""

    url: str = "embedded"  # embedded | mqtt://[user:password@]host:port
    embedded_address: str = "127.0.0.1:1883"  # loopback only: it speaks plain text
    # Of the embedded broker: users and hashes, from `edgecore broker acl`; a device may touch its own topics only.
    # Empty: whoever reaches the port may touch everything.
    password_file: str = ""
    reconnect_max_s: float = 10.0


@dataclass(frozen=True)
class DmiSettings:
    """Where mappers register, and which of them this agent runs itself."""

    # A path that only root may dial. KubeEdge's mappers look for /etc/kubeedge/dmi.sock. Empty: not served.
    socket: str = ""
    # Names of installed drivers (`armadillo-mapper list`), each run as a process and restarted when it dies.
    mappers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse mappers that nobody would hear, and names that are no names."""
        if self.mappers and not self.socket:
            raise ValueError("dmi.mappers: needs dmi.socket")
        for name in self.mappers:
            if not name or name.startswith("-") or "/" in name:
                raise ValueError(f"dmi.mappers: {name!r} is not the name of a driver")


@dataclass(frozen=True)
class EdgeSettings:
    """All of edgecore's settings."""

    node: NodeSettings = field(default_factory=NodeSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    pods: PodSettings = field(default_factory=PodSettings)
    broker: BrokerSettings = field(default_factory=BrokerSettings)
    dmi: DmiSettings = field(default_factory=DmiSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    log: LogSettings = field(default_factory=LogSettings)
