"""Security contexts, sysctls and runtime classes: what a container itself sees, on a real containerd."""

from __future__ import annotations

import json

import pytest

from tests.fakes.pods import pod_object
from tests.integration.edged.onenode import PATIENCE_S, sandbox_problem, shell, told

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(90)]


async def test_a_process_has_the_users_groups_and_rights_of_both_security_contexts(node):
    said = await node.said(
        "id -u; id -g; id -G; grep -E 'NoNewPrivs|CapEff|Seccomp:' /proc/self/status; "
        """awk '$2 == "/" {print substr($4, 1, 2)}' /proc/mounts""",
        securityContext={
            "runAsUser": 1000,
            "runAsGroup": 3000,
            "fsGroup": 2000,
            "supplementalGroups": [4000],
            "runAsNonRoot": True,
        },
        app={
            "securityContext": {
                "runAsUser": 1001,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
        },
    )
    assert said == [
        "1001",
        "3000",
        "3000 2000 4000",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "ro",
    ]


async def test_without_a_profile_nothing_is_filtered_and_added_capabilities_are_there(node):
    said = await node.said(
        "grep -E 'CapEff|Seccomp:' /proc/self/status",
        app={"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}},
    )
    assert said == ["CapEff:\t0000000000001000", "Seccomp:\t0"]


async def test_a_container_that_must_not_be_root_waits_with_kubelets_words(node):
    async with node.with_settings() as edge:
        app = shell("id -u", securityContext={"runAsNonRoot": True})
        await edge.put("Pod", pod_object(containers=[app]))
        waiting = await edge.until(
            lambda: edge.waiting().get("message") and edge.waiting(), PATIENCE_S
        )
    assert waiting == {
        "reason": "CreateContainerConfigError",
        "message": "container has runAsNonRoot and image will run as root "
        '(pod: "web_default(u-1)", container: app)',
    }


async def test_safe_sysctls_are_set_in_the_pods_own_namespaces(node):
    sysctls = [
        {"name": "kernel.shm_rmid_forced", "value": "1"},
        {"name": "net/ipv4/ip_unprivileged_port_start", "value": "80"},
        {"name": "net.ipv4.tcp_keepalive_time", "value": "77"},
    ]
    files = "kernel/shm_rmid_forced net/ipv4/ip_unprivileged_port_start net/ipv4/tcp_keepalive_time"
    script = f"cd /proc/sys; cat {files}"
    assert await node.said(script, securityContext={"sysctls": sysctls}) == ["1", "80", "77"]


async def test_an_unsafe_sysctl_is_rejected_and_allowed_where_the_node_says_so(node):
    context = {"sysctls": [{"name": "kernel.msgmax", "value": "9000"}]}
    async with node.with_settings() as edge:
        await edge.put("Pod", pod_object(containers=[shell("true")], securityContext=context))
        await edge.until(lambda: edge.phase() == "Failed", PATIENCE_S)
        status = edge.status()
        assert told(edge, "SysctlForbidden") == [
            'forbidden sysctl: "kernel.msgmax" not allowlisted'
        ]
    assert status["reason"] == "SysctlForbidden"
    assert status["message"].startswith("Pod was rejected: forbidden sysctl")
    assert "containerStatuses" not in status


async def test_an_unsafe_sysctl_that_the_node_allows_is_set(node):
    said = await node.said(
        "cat /proc/sys/kernel/msgmax",
        settings={"allowed_unsafe_sysctls": ("kernel.msg*",)},
        securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "9000"}]},
    )
    assert said == ["9000"]


async def test_a_runtime_class_that_does_not_exist_is_told(node):
    async with node.with_settings() as edge:
        message = await sandbox_problem(edge, runtimeClassName="vm")
    assert message.endswith('runtimeclass.node.k8s.io "vm" not found')


async def test_a_runtime_class_that_the_runtime_is_not_set_up_for_is_told(node):
    async with node.with_settings() as edge:
        meta = {"name": "vm", "namespace": "", "uid": "u-rc"}
        await edge.put("RuntimeClass", {"metadata": meta, "handler": "kata"})
        message = await sandbox_problem(edge, runtimeClassName="vm")
    assert 'no runtime for "kata" is configured' in message


async def test_a_runtime_class_whose_handler_is_set_up_runs(node):
    async with node.with_settings() as edge:
        meta = {"name": "plain", "namespace": "", "uid": "u-rc"}
        await edge.put("RuntimeClass", {"metadata": meta, "handler": "runc"})
        app = shell("echo ran")
        pod = pod_object(containers=[app], runtimeClassName="plain", restartPolicy="Never")
        await edge.put("Pod", pod)
        await edge.until(lambda: edge.phase() == "Succeeded", PATIENCE_S)


async def test_proc_and_sys_are_masked_and_read_only(node):
    script = "ls /sys/firmware | wc -l; (: > /proc/sys/vm/swappiness) 2>&1 | grep -c ead-only"
    assert await node.said(script) == ["0", "1"]


async def test_a_privileged_container_may_write_the_kernels_parameters(node):
    privileged = {"securityContext": {"privileged": True}}
    said = await node.said("(: > /proc/sys/vm/swappiness) 2>&1; echo $?", app=privileged)
    assert said == ["0"]


async def test_a_missing_seccomp_profile_is_told_by_the_container(node):
    context = {"seccompProfile": {"type": "Localhost", "localhostProfile": "none.json"}}
    async with node.with_settings(seccomp_dir=str(node.folder)) as edge:
        await edge.put("Pod", pod_object(containers=[shell("true", securityContext=context)]))
        waiting = await edge.until(
            lambda: edge.waiting().get("message") and edge.waiting(), PATIENCE_S
        )
    assert waiting["reason"] == "CreateContainerError"
    assert "none.json" in waiting["message"]


async def test_a_seccomp_profile_of_the_node_filters_the_container(node):
    rules = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]
    profile = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    (node.folder / "profiles").mkdir()
    (node.folder / "profiles/no-folders.json").write_text(profile)
    said = await node.said(
        "mkdir /tmp/x 2>&1 | grep -c 'not permitted'",
        settings={"seccomp_dir": str(node.folder / "profiles")},
        securityContext={
            "seccompProfile": {"type": "Localhost", "localhostProfile": "no-folders.json"}
        },
    )
    assert said == ["1"]
