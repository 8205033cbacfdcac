"""AppArmor, and mounts that are read-only all the way down, on a host that has both."""

from __future__ import annotations

import pytest

PROFILE = """profile no-writes flags=(attach_disconnected) {
  file,
  network,
  capability,
  signal,
  deny /tmp/** w,
}
"""
SAY = "cat /proc/self/attr/current; touch /tmp/x && echo wrote"


def said(gateway, name, context, script=SAY):
    gateway.start(
        name, script + "; true", phase="Succeeded", container={"securityContext": context}
    )
    text = gateway.kubectl("logs", name)
    gateway.delete(name)
    return text.splitlines()


def profile(kind, **more):
    return {"appArmorProfile": {"type": kind, **more}}


@pytest.mark.parametrize(
    ("context", "label"),
    [
        ({}, "cri-containerd.apparmor.d (enforce)"),
        (profile("RuntimeDefault"), "cri-containerd.apparmor.d (enforce)"),
        (profile("Unconfined"), "unconfined"),
    ],
    ids=["nothing said", "RuntimeDefault", "Unconfined"],
)
def test_a_container_runs_under_the_profile_that_it_asks_for(gateway, context, label):
    (found, wrote) = said(gateway, "armored", context)
    # Debian 13 has a profile `runc` that allows everything; what runc starts without one is told by its name.
    assert (found.replace("runc (unconfined)", "unconfined"), wrote) == (label, "wrote")


def test_a_profile_of_the_host_is_enforced(gateway):
    gateway.machine.put({"/etc/apparmor.d/no-writes": PROFILE})
    gateway.run("apparmor_parser -r /etc/apparmor.d/no-writes")
    lines = said(gateway, "local", profile("Localhost", localhostProfile="no-writes"))
    assert lines[0] == "no-writes (enforce)"
    assert "wrote" not in lines
    assert "Permission denied" in lines[1]


def test_a_profile_that_is_not_loaded_is_refused_with_its_name(gateway):
    context = profile("Localhost", localhostProfile="nowhere")
    gateway.start("missing", phase="Pending", container={"securityContext": context})
    message = gateway.waiting("missing", "CreateContainerError")
    assert "nowhere" in message
    gateway.delete("missing")


@pytest.fixture
def stacked(gateway):
    """A folder of the host with a writable tmpfs mounted below it."""
    gateway.run("mkdir -p /srv/stack/below && mount -t tmpfs none /srv/stack/below")
    yield {"name": "stack", "hostPath": {"path": "/srv/stack"}}
    gateway.run("umount /srv/stack/below")


def mounted(gateway, volume, mode, phase="Succeeded"):
    mount = {"name": "stack", "mountPath": "/stack", "readOnly": True}
    if mode:
        mount["recursiveReadOnly"] = mode
    script = "touch /stack/x; touch /stack/below/x && echo wrote; true"
    return gateway.start(
        "deep", script, phase=phase, container={"volumeMounts": [mount]}, spec={"volumes": [volume]}
    )


@pytest.mark.parametrize("mode", ["", "Disabled", "IfPossible", "Enabled"])
def test_what_lies_below_a_read_only_mount_is_read_only_if_that_is_asked(gateway, stacked, mode):
    can = gateway.version_of_containerd() >= (2, 0)
    if mode == "Enabled" and not can:
        mounted(gateway, stacked, mode, phase="Pending")
        message = gateway.waiting("deep", "CreateContainerConfigError")
        assert message.endswith("recursive read-only mode, but it is not supported by the runtime")
        gateway.delete("deep")
        return
    found = mounted(gateway, stacked, mode)
    deep = can and mode in ("IfPossible", "Enabled")
    assert ("wrote" in gateway.kubectl("logs", "deep")) is not deep
    (told,) = (
        m for m in found["status"]["containerStatuses"][0]["volumeMounts"] if m["name"] == "stack"
    )
    assert told["recursiveReadOnly"] == ("Enabled" if deep else "Disabled")
    gateway.delete("deep")
