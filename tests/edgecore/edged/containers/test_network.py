"""Host names, /etc/hosts and resolv.conf, as kubelet makes them."""

from __future__ import annotations

import pytest

from edgecore.edged.containers.network import Names, hosts_file, kernel_hostname, resolver
from edgecore.edged.runtime import ContainerStartError
from edgecore.settings import PodSettings
from tests.fakes.pods import make_pod

NODE = "# made by hand\nnameserver 192.0.2.53\nsearch site.example lan\noptions timeout:1 rotate\n"
CLUSTER = Names(("10.96.0.10",), "cluster.local", NODE)
NO_CLUSTER = Names((), "cluster.local", NODE)


def resolved(names=CLUSTER, **spec):
    found, warnings = resolver(make_pod(**spec), names)
    return list(found.servers), list(found.searches), list(found.options), warnings


CLUSTER_SEARCHES = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]
AS_NODE = (["192.0.2.53"], ["site.example", "lan"], ["timeout:1", "rotate"], {})


def test_cluster_first_asks_the_cluster_and_searches_its_domains_first():
    expected = (["10.96.0.10"], [*CLUSTER_SEARCHES, "site.example", "lan"], ["ndots:5"], {})
    assert resolved() == expected
    assert resolved(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet") == expected


def test_default_and_cluster_first_in_the_hosts_network_are_as_the_node():
    assert resolved(dnsPolicy="Default") == AS_NODE
    assert resolved(hostNetwork=True) == AS_NODE


def test_without_a_cluster_dns_the_pod_is_as_the_node_and_is_told():
    *found, warnings = resolved(NO_CLUSTER)
    assert tuple(found) == AS_NODE[:3]
    assert warnings == {
        "MissingClusterDNS": 'pod: "web_default(u-1)". kubelet does not have ClusterDNS IP configured and cannot '
        'create Pod using "ClusterFirst" policy. Falling back to "Default" policy.'
    }


def test_in_a_cluster_without_dns_the_pod_is_as_the_node_and_nothing_is_told():
    names = Names((), "cluster.local", NODE, has_dns=False)
    assert resolved(names) == AS_NODE
    assert resolved(names, hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet") == AS_NODE


def test_a_cluster_without_dns_has_no_address_of_one():
    with pytest.raises(ValueError, match=r"^pods.cluster_has_dns: false, but pods.cluster_dns"):
        PodSettings(cluster_has_dns=False, cluster_dns=("10.96.0.10",))


def test_none_has_only_what_the_pod_says():
    config = {"nameservers": ["1.1.1.1"], "searches": ["x"], "options": [{"name": "edns0"}]}
    found = resolved(dnsPolicy="None", dnsConfig=config)
    assert found == (["1.1.1.1"], ["x"], ["edns0"], {})


def test_the_pods_own_config_is_added_without_repeats_and_its_options_win():
    config = {
        "nameservers": ["10.96.0.10", "1.1.1.1"],
        "searches": ["lan", "mine"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    servers, searches, options, _ = resolved(dnsConfig=config)
    assert servers == ["10.96.0.10", "1.1.1.1"]
    assert searches == [*CLUSTER_SEARCHES, "site.example", "lan", "mine"]
    assert options == ["ndots:2", "edns0"]


def test_what_no_resolver_takes_is_left_out_and_told():
    servers, _, _, warnings = resolved(dnsConfig={"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3"]})
    assert servers == ["10.96.0.10", "1.1.1.1", "2.2.2.2"]
    assert warnings["DNSConfigForming"].endswith("line is: 10.96.0.10 1.1.1.1 2.2.2.2")
    _, searches, _, warnings = resolved(dnsConfig={"searches": [f"d{n}" for n in range(40)]})
    assert len(searches) == 32
    assert warnings["DNSConfigForming"].startswith("Search Line limits were exceeded")
    long = [f"{'x' * 60}.{n}" for n in range(30)] + ["y" * 250] * 2
    _, searches, _, _ = resolved(dnsConfig={"searches": long})
    assert len(" ".join(searches)) <= 2048


def test_hosts_has_the_pods_names_and_then_its_aliases():
    aliases = [
        {"ip": "192.0.2.1", "hostnames": ["a", "b"]},
        {"ip": "192.0.2.2", "hostnames": ["c"]},
    ]
    pod = make_pod(hostname="h", subdomain="sub", hostAliases=aliases)
    assert hosts_file(pod, ["10.88.0.2", "fd00::2"], "cluster.local", "").decode() == (
        "# Kubernetes-managed hosts file.\n"
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\n"
        "fe00::0\tip6-mcastprefix\n"
        "fe00::1\tip6-allnodes\n"
        "fe00::2\tip6-allrouters\n"
        "10.88.0.2\th.sub.default.svc.cluster.local\th\n"
        "fd00::2\th.sub.default.svc.cluster.local\th\n"
        "\n"
        "# Entries added by HostAliases.\n"
        "192.0.2.1\ta\tb\n"
        "192.0.2.2\tc\n"
    )


def test_hosts_in_the_hosts_network_is_the_nodes_with_the_aliases():
    pod = make_pod(hostNetwork=True, hostAliases=[{"ip": "192.0.2.1", "hostnames": ["a"]}])
    assert hosts_file(pod, ["192.0.2.7"], "cluster.local", "127.0.0.1 localhost\n") == (
        b"# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"
        b"\n# Entries added by HostAliases.\n192.0.2.1\ta\n"
    )


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ({}, "web"),
        ({"hostname": "h"}, "h"),
        ({"hostname": "h", "subdomain": "s"}, "h"),
        ({"setHostnameAsFQDN": True}, "web"),
        ({"setHostnameAsFQDN": True, "subdomain": "s"}, "web.s.default.svc.cluster.local"),
        ({"hostname": "x" * 62 + "-z"}, "x" * 62),
    ],
)
def test_the_kernel_gets_the_short_name_or_the_full_one_if_asked(spec, name):
    assert kernel_hostname(make_pod(**spec), "cluster.local") == name


def test_a_full_name_that_the_kernel_cannot_hold_is_refused():
    pod = make_pod(hostname="h" * 40, subdomain="s", setHostnameAsFQDN=True)
    with pytest.raises(ContainerStartError) as caught:
        kernel_hostname(pod, "cluster.local")
    assert caught.value.message.endswith("(64 characters is the max, 68 characters requested)")
