"""Specs that contradict themselves, and names that would be lines of their own in a file, with the API server's words."""

import pytest

from kubecore.kinds.registry import Registry
from kubecore.schema.checking import InvalidObjectError, check
from tests.kubecore.samples import make_pod

PODS = Registry().find("", "v1", "pods")
IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def alias(ip, *names):
    return make_pod(hostAliases=[{"ip": ip, "hostnames": list(names)}])


def dns(policy="ClusterFirst", **config):
    return make_pod(dnsPolicy=policy, dnsConfig=config)


def only(volumes=(), **container):
    return make_pod(
        containers=[{"name": "a", "image": "busybox", **container}], volumes=list(volumes)
    )


REFUSED = [
    (alias("1.2.3"), f'spec.hostAliases[0].ip: Invalid value: "1.2.3": {IP}'),
    (
        alias("fe80::1%a\nb"),
        f'spec.hostAliases[0].ip: Invalid value: "fe80::1%a\\nb": {IP}',
    ),
    (
        alias("1.2.3.4", "a\n6.6.6.6 b"),
        'spec.hostAliases[0].hostnames: Invalid value: "a\\n6.6.6.6 b": a lowercase RFC 1123 subdomain',
    ),
    (
        make_pod(dnsPolicy="None"),
        "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver",
    ),
    (
        dns(nameservers=["1.1.1.1", "x\ny"]),
        f'spec.dnsConfig.nameservers[1]: Invalid value: "x\\ny": {IP}',
    ),
    (
        dns(nameservers=["1.1.1.1"] * 4),
        (
            'spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1"]: '
            "must not have more than 3 nameservers"
        ),
    ),
    (
        dns(searches=["x\nnameserver 6.6.6.6"]),
        'spec.dnsConfig.searches[0]: Invalid value: "x\\nnameserver 6.6.6.6": a lowercase RFC 1123',
    ),
    (dns(searches=["a"] * 33), "spec.dnsConfig.searches: Invalid value"),
    (dns(searches=["a" * 200] * 11), "spec.dnsConfig.searches: Invalid value"),
    (dns(options=[{"value": "x"}]), "spec.dnsConfig.options[0].name: Required value"),
    (
        dns(options=[{"name": "a", "value": "b\nc"}]),
        'spec.dnsConfig.options[0].value: Invalid value: "b\\nc": must be printable and without spaces',
    ),
    (
        make_pod(
            hostNetwork=True,
            containers=[
                {"name": "a", "image": "b", "ports": [{"containerPort": 80, "hostPort": 81}]}
            ],
        ),
        (
            "spec.containers[0].ports[0].containerPort: Invalid value: 80: must match `hostPort` when "
            "`hostNetwork` is true"
        ),
    ),
    (
        make_pod(hostPID=True, shareProcessNamespace=True),
        (
            "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both "
            "be enabled"
        ),
    ),
    (
        only(securityContext={"privileged": True, "allowPrivilegeEscalation": False}),
        (
            "spec.containers[0].securityContext: Invalid value: "
            '{"privileged":true,"allowPrivilegeEscalation":false}: cannot set `allowPrivilegeEscalation` to '
            "false and `privileged` to true"
        ),
    ),
    (
        only(
            [{"name": "v", "emptyDir": {}}],
            volumeMounts=[{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}],
        ),
        (
            "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation "
            "is available only to privileged containers"
        ),
    ),
    (
        only([{"name": "v", "hostPath": {"path": "/a/../etc"}}]),
        "spec.volumes[0].hostPath.path: Invalid value: \"/a/../etc\": must not contain '..'",
    ),
]


@pytest.mark.parametrize(("pod", "cause"), REFUSED)
def test_each_rule_names_what_breaks_it(pod, cause):
    with pytest.raises(InvalidObjectError) as caught:
        check(PODS, pod)
    found = [str(one) for one in caught.value.causes]
    assert [one for one in found if one.startswith(cause)], found


@pytest.mark.parametrize(
    "pod",
    [
        alias("2001:db8::1", "a.example", "b"),
        dns("None", nameservers=["1.1.1.1", "::1"], searches=[".", "_a._b.example."]),
        dns(options=[{"name": "ndots", "value": "2"}, {"name": "edns0"}]),
        make_pod(hostNetwork=True, containers=[{"name": "a", "image": "b", "ports": [{"containerPort": 80}]}]),
        make_pod(shareProcessNamespace=True),
        only(securityContext={"privileged": True}),
        only(
            [{"name": "v", "hostPath": {"path": "/a..b"}}],
            securityContext={"privileged": True},
            volumeMounts=[{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}],
        ),
    ],
)  # fmt: skip
def test_what_fits_together_passes(pod):
    check(PODS, pod)
