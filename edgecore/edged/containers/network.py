"""Names and resolvers of a pod: host name, /etc/hosts, resolv.conf; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgecore.edged.runtime import ContainerStartError
from edgecore.edged.spec.podspec import DnsConfig, DnsOption, HostAlias, Pod

MAX_HOSTNAME_CHARS = 63  # of a DNS label; the kernel's own limit is 64
MAX_FQDN_CHARS = 64  # what the kernel holds as a host name
# What resolvers take, and so the API server and kubelet.
MAX_NAMESERVERS, MAX_SEARCHES, MAX_SEARCH_CHARS = 3, 32, 2048
_CLUSTER_OPTIONS = ("ndots:5",)
_HEADER = "# Kubernetes-managed hosts file.\n"
_HOST_HEADER = "# Kubernetes-managed hosts file (host network).\n"
_LOCAL = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


@dataclass(frozen=True)
class Resolver:
    """Contents of a resolv.conf."""

    servers: Sequence[str] = ()
    searches: Sequence[str] = ()
    options: Sequence[str] = ()


@dataclass(frozen=True)
class Names:
    """How the cluster names things.

    Shapes:  dns_servers: of the cluster, empty if none is known. resolv_conf: the node's own, as text.
             has_dns: False if the cluster is known to have none: then its absence is no news to a pod.
    """

    dns_servers: Sequence[str] = ()
    domain: str = "cluster.local"
    resolv_conf: str = ""
    has_dns: bool = True


def pod_hostname(pod: Pod) -> str:
    """Return the short host name that the pod's processes see."""
    name = pod.spec.hostname or pod.metadata.name
    return name[:MAX_HOSTNAME_CHARS].rstrip("-.")


def pod_domain(pod: Pod, domain: str) -> str:
    """Return the domain behind the pod's host name, "" if it has none."""
    if not pod.spec.subdomain:
        return ""
    return f"{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{domain}"


def kernel_hostname(pod: Pod, domain: str) -> str:
    """Return the host name to be set in the pod's sandbox.

    Raises:  ContainerStartError: CreatePodSandboxError: fully qualified as asked for it does not fit.
    """
    name, behind = pod_hostname(pod), pod_domain(pod, domain)
    if not pod.spec.set_hostname_as_fqdn or not behind:
        return name
    full = f"{name}.{behind}"
    if len(full) > MAX_FQDN_CHARS:
        raise ContainerStartError(
            "CreatePodSandboxError",
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
            f"({MAX_FQDN_CHARS} characters is the max, {len(full)} characters requested)",
        )
    return full


def hosts_file(pod: Pod, pod_ips: Sequence[str], domain: str, node_hosts: str) -> bytes:
    """Return the pod's /etc/hosts.

    Shapes:  node_hosts: the node's own file, which a pod in the host's network gets.
    """
    if pod.spec.host_network:
        text = _HOST_HEADER + node_hosts
    else:
        name, behind = pod_hostname(pod), pod_domain(pod, domain)
        names = f"{name}.{behind}\t{name}" if behind else name
        text = _HEADER + _LOCAL + "".join(f"{ip}\t{names}\n" for ip in pod_ips)
    return (text + _aliases(pod.spec.host_aliases)).encode(errors="surrogateescape")


def resolver(pod: Pod, names: Names) -> tuple[Resolver, dict[str, str]]:
    """Return what the pod's resolv.conf says, and Events to tell of it: reason -> message."""
    warnings: dict[str, str] = {}
    base = _parsed(names.resolv_conf)
    if pod.spec.dns_policy == "None":
        base = Resolver()
    elif _asks_cluster(pod):
        if names.dns_servers:
            base = _of_cluster(pod, base, names)
        elif names.has_dns:
            warnings["MissingClusterDNS"] = (
                f'pod: "{pod.full_name}". kubelet does not have ClusterDNS IP configured and cannot create Pod '
                'using "ClusterFirst" policy. Falling back to "Default" policy.'
            )
    if pod.spec.dns_config is not None:
        base = _merged(base, pod.spec.dns_config)
    return _limited(base, warnings), warnings


def _asks_cluster(pod: Pod) -> bool:
    policy = pod.spec.dns_policy
    return policy == "ClusterFirstWithHostNet" or (
        policy == "ClusterFirst" and not pod.spec.host_network
    )


def _of_cluster(pod: Pod, host: Resolver, names: Names) -> Resolver:
    searches: Sequence[str] = host.searches
    if names.domain:
        services = f"svc.{names.domain}"
        own = (f"{pod.metadata.namespace}.{services}", services, names.domain)
        searches = _once((*own, *host.searches))
    return Resolver(names.dns_servers, searches, _CLUSTER_OPTIONS)


def _merged(base: Resolver, extra: DnsConfig) -> Resolver:
    options: dict[str, str] = {option.partition(":")[0]: option for option in base.options}
    options.update({option.name: _written(option) for option in extra.options})
    return Resolver(
        servers=_once((*base.servers, *extra.nameservers)),
        searches=_once((*base.searches, *extra.searches)),
        options=tuple(options.values()),
    )


def _limited(wanted: Resolver, warnings: dict[str, str]) -> Resolver:
    """Return what fits; the last thing that was left out is told."""
    servers, searches = tuple(wanted.servers), tuple(wanted.searches)[:MAX_SEARCHES]
    while len(" ".join(searches)) > MAX_SEARCH_CHARS:
        searches = searches[:-1]
    if len(servers) > MAX_NAMESERVERS:
        servers = servers[:MAX_NAMESERVERS]
        warnings["DNSConfigForming"] = (
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
            + " ".join(servers)
        )
    if len(searches) < len(wanted.searches):
        warnings["DNSConfigForming"] = (
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
            + " ".join(searches)
        )
    return Resolver(servers, searches, wanted.options)


def _parsed(resolv_conf: str) -> Resolver:
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for words in (line.split() for line in resolv_conf.splitlines()):
        match words:
            case ["nameserver", address, *_]:
                servers.append(address)
            case ["search", *found]:  # the last one counts, as for resolvers
                searches = ["." if name == "." else name.rstrip(".") for name in found]
            case ["options", *found]:
                options += found
    return Resolver(servers, searches, _once(options))


def _written(option: DnsOption) -> str:
    return f"{option.name}:{option.value}" if option.value else option.name


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _aliases(aliases: Sequence[HostAlias]) -> str:
    if not aliases:
        return ""
    lines = "".join(f"{alias.ip}\t" + "\t".join(alias.hostnames) + "\n" for alias in aliases)
    return f"\n# Entries added by HostAliases.\n{lines}"
