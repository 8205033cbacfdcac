"""Which pods a node rejects, and with which of kubelet's words."""

from __future__ import annotations

import pytest

from edgecore.edged.spec.refusals import Abilities, admission_refusal, container_refusal
from edgecore.edged.spec.sysctls import SAFE, dotted, forbidden
from tests.fakes.pods import container, make_pod

PLAIN = Abilities()


def refused(node=PLAIN, metadata=None, app=None, **spec):
    found = admission_refusal(
        make_pod(containers=[app or container()], metadata=metadata, **spec), node
    )
    return found and (found.reason, found.message)


def with_sysctl(name, **spec):
    return {"securityContext": {"sysctls": [{"name": name, "value": "1"}]}, **spec}


def test_a_plain_pod_is_taken():
    assert refused() is None
    assert refused(hostUsers=True, securityContext={"supplementalGroupsPolicy": "Merge"}) is None


@pytest.mark.parametrize("name", SAFE)
def test_safe_sysctls_are_taken(name):
    assert refused(**with_sysctl(name)) is None
    assert refused(**with_sysctl(name.replace(".", "/"))) is None


def test_an_unsafe_sysctl_is_refused_unless_the_node_allows_it():
    spec = with_sysctl("kernel.msgmax")
    expected = ("SysctlForbidden", 'forbidden sysctl: "kernel.msgmax" not allowlisted')
    assert refused(**spec) == expected
    assert refused(Abilities(unsafe_sysctls=("kernel.msgmax",)), **spec) is None
    assert refused(Abilities(unsafe_sysctls=("kernel.msg*", "net.core.*")), **spec) is None
    assert refused(Abilities(unsafe_sysctls=("net.core.*",)), **spec) == expected


def test_a_sysctl_of_the_whole_machine_cannot_be_allowed():
    assert refused(Abilities(unsafe_sysctls=("*",)), **with_sysctl("vm.swappiness")) is not None


@pytest.mark.parametrize(
    ("name", "spec", "namespace"),
    [
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True}, "Net"),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, "IPC"),
    ],
)
def test_a_sysctl_of_a_namespace_that_is_the_hosts_is_refused(name, spec, namespace):
    message = f'forbidden sysctl: "{name}" not allowed with host {namespace} enabled'
    assert refused(**with_sysctl(name, **spec)) == ("SysctlForbidden", message)


def test_slashes_and_dots_of_a_sysctl_are_told_apart_by_the_first():
    assert dotted("net/ipv4/conf/eth0.1/mtu") == "net.ipv4.conf.eth0/1.mtu"
    assert dotted("net.ipv4.conf.eth0/1.mtu") == "net.ipv4.conf.eth0/1.mtu"
    assert dotted("plain") == "plain"
    assert forbidden("", ("",), host_network=False, host_ipc=False) == '"" not allowlisted'


@pytest.mark.parametrize(
    ("metadata", "app"),
    [
        (None, container(securityContext={"appArmorProfile": {"type": "RuntimeDefault"}})),
        (
            {"annotations": {"container.apparmor.security.beta.kubernetes.io/app": "localhost/x"}},
            None,
        ),
    ],
)
def test_an_app_armor_profile_needs_a_kernel_that_enforces_it(metadata, app):
    expected = ("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
    assert refused(metadata=metadata, app=app) == expected
    assert refused(Abilities(app_armor=True), metadata, app) is None


def test_unconfined_needs_no_app_armor():
    app = container(securityContext={"appArmorProfile": {"type": "Unconfined"}})
    assert refused(app=app) is None


def test_strict_groups_need_a_runtime_that_knows_them():
    context = {"supplementalGroupsPolicy": "Strict"}
    assert refused(securityContext=context) == (
        "SupplementalGroupsPolicyNotSupported",
        "SupplementalGroupsPolicy=Strict is not supported in this node",
    )
    assert refused(Abilities(group_policy=True), securityContext=context) is None


def test_resources_of_the_pod_need_a_cgroup_of_the_pod():
    whole = {"resources": {"limits": {"cpu": "1"}}}
    assert refused(**whole)[0] == "PodLevelResourcesNotSupported"
    assert refused(Abilities(pod_cgroups=True), **whole) is None


@pytest.mark.parametrize(
    ("spec", "app"),
    [
        ({"hostUsers": False}, None),
        ({"resourceClaims": [{"name": "gpu"}]}, None),
        ({"resources": {"claims": [{"name": "gpu"}]}}, None),
        ({}, container(resources={"claims": [{"name": "gpu"}]})),
    ],
)
def test_a_feature_that_no_node_here_has_is_refused(spec, app):
    reason, message = refused(app=app, **spec)
    assert reason == "PodFeatureUnsupported"
    assert message.endswith("is not supported by this node")


def test_a_device_that_nobody_offers_is_refused_as_kubelets_device_manager_does():
    app = container(resources={"limits": {"example.com/gpu": "2"}})
    assert refused(app=app) == (
        "UnexpectedAdmissionError",
        (
            "Allocate failed due to requested number of devices unavailable for example.com/gpu. "
            "Requested: 2, Available: 0, which is unexpected"
        ),
    )
    none = container(resources={"limits": {"example.com/gpu": 0, "hugepages-2Mi": "4Mi"}})
    assert refused(app=none) is None


def test_a_container_with_a_raw_block_device_is_refused():
    made = make_pod(containers=[container(volumeDevices=[{"name": "v", "devicePath": "/dev/x"}])])
    assert "raw block volumes" in container_refusal(made.spec.containers[0])
    assert container_refusal(make_pod().spec.containers[0]) == ""
