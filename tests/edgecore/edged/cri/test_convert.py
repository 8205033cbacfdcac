"""Our values as CRI messages, and what a runtime tells of itself."""

from __future__ import annotations

import json

import pytest

from edgecore.edged.cri import convert
from edgecore.edged.cri.pb import api_pb2 as pb
from edgecore.edged.runtime import (
    ContainerConfig,
    ContainerLimits,
    ContainerSecurity,
    PodIdentity,
    RuntimeFeatures,
    SandboxConfig,
    SELinuxLabel,
)


def sandbox(**settings):
    identity = PodIdentity("default", "web", "u-1")
    config = SandboxConfig(identity, 0, "web", "/logs", {}, {}, **settings)
    return convert.sandbox_config(config, "edge-1"), config


def container(security=None, limits=None, **settings):
    config = ContainerConfig(
        "app",
        0,
        "busybox",
        security=security or ContainerSecurity(),
        limits=limits or ContainerLimits(),
    )
    return convert.container_config(config, sandbox(**settings)[1], "edge-1").linux


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({}, pb.CONTAINER),
        ({"share_processes": True}, pb.POD),
        ({"host_pid": True}, pb.NODE),
        ({"host_pid": True, "share_processes": True}, pb.NODE),
    ],
)
def test_who_shares_processes(settings, mode):
    made, _ = sandbox(**settings)
    assert made.linux.security_context.namespace_options.pid == mode
    assert container(**settings).security_context.namespace_options.pid == mode


def test_a_sandbox_has_a_group_only_with_a_user():
    made, _ = sandbox(security=ContainerSecurity(run_as_group=7))
    assert not made.linux.security_context.HasField("run_as_group")
    made, _ = sandbox(security=ContainerSecurity(run_as_user=5, run_as_group=7))
    assert made.linux.security_context.run_as_group.value == 7


def test_profiles_labels_and_group_policy_are_handed_on():
    made = container(
        ContainerSecurity(
            seccomp="Localhost//profiles/a.json",
            app_armor="Localhost/mine",
            se_linux=SELinuxLabel(level="s0"),
            only_listed_groups=True,
        )
    ).security_context
    assert made.seccomp.localhost_ref == "/profiles/a.json"
    assert (made.apparmor.profile_type, made.apparmor.localhost_ref) == (2, "mine")
    assert made.apparmor_profile == "localhost/mine"
    assert made.selinux_options.level == "s0"
    assert made.supplemental_groups_policy == pb.STRICT


def test_nothing_said_of_app_armor_leaves_it_to_the_runtime():
    made = container().security_context
    assert not made.HasField("apparmor")
    assert made.apparmor_profile == ""


def test_huge_pages_and_the_sums_of_the_pod_are_handed_on():
    limits = ContainerLimits(huge_pages={"2MB": 4 << 20})
    (found,) = container(limits=limits).resources.hugepage_limits
    assert (found.page_size, found.limit) == ("2MB", 4 << 20)
    made, _ = sandbox(limits=ContainerLimits(512), overhead=ContainerLimits(256))
    assert (made.linux.resources.cpu_shares, made.linux.overhead.cpu_shares) == (512, 256)


@pytest.mark.parametrize(
    ("image", "user"),
    [
        (pb.Image(uid=pb.Int64Value(value=65532)), 65532),
        (pb.Image(uid=pb.Int64Value(value=0)), 0),
        (pb.Image(username="nginx"), "nginx"),
        (pb.Image(), None),
    ],
)
def test_an_image_says_whom_it_runs_as(image, user):
    assert convert.image_state(image).user == user


CONTAINERD = {"containerd": {"runtimes": {"runc": {"options": {"SystemdCgroup": True}}}}}


@pytest.mark.parametrize(
    ("config", "systemd"),
    [
        (json.dumps(CONTAINERD), True),
        (json.dumps({"containerd": {"defaultRuntimeName": "x", "runtimes": {"x": {}}}}), False),
        ("", False),
        ("not json", False),
        ("[]", False),
        ('{"containerd": {"runtimes": null}}', False),
    ],
)
def test_containerds_configuration_tells_its_cgroup_driver(config, systemd):
    status = pb.StatusResponse(info={"config": config})
    assert convert.features(status) == RuntimeFeatures(systemd_cgroups=systemd)


def test_a_runtime_says_if_it_knows_group_policies():
    status = pb.StatusResponse(features=pb.RuntimeFeatures(supplemental_groups_policy=True))
    assert convert.features(status).group_policy


def test_a_runtime_says_which_handlers_mount_recursively_read_only():
    can = pb.RuntimeHandlerFeatures(recursive_read_only_mounts=True)
    handlers = [pb.RuntimeHandler(name="", features=can), pb.RuntimeHandler(name="old")]
    found = convert.features(pb.StatusResponse(runtime_handlers=handlers))
    assert found.recursive_read_only == {""}


def test_a_container_tells_what_was_mounted_recursively_read_only():
    mounts = [
        pb.Mount(container_path="/a", recursive_read_only=True),
        pb.Mount(container_path="/b"),
    ]
    state = convert.container_state(pb.Container(), pb.ContainerStatus(mounts=mounts))
    assert state.recursive_read_only == {"/a"}


def test_settings_of_cgroup_version_2_are_handed_on():
    limits = ContainerLimits(settings={"memory.oom.group": "1"})
    assert dict(container(limits=limits).resources.unified) == {"memory.oom.group": "1"}
