"""The agent as a service of a real systemd: start, restart, stop, death, logs, reboot."""

from __future__ import annotations

import socket

import pytest

from tests.e2e.cluster import wait_until
from tests.hosts.gateway import NODE, PATIENCE_S, SOURCES

COUNT_PODS = "pgrep -fc '^sleep 100000'"


def shown(gateway, *names):
    text = gateway.run(f"systemctl show edgecore -p {','.join(names)}")
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_service_is_active_once_it_serves_and_is_watched(gateway):
    assert shown(gateway, "ActiveState", "Type", "WatchdogUSec", "NRestarts") == {
        "ActiveState": "active",
        "Type": "notify",
        "WatchdogUSec": "2min",
        "NRestarts": "0",
    }
    text = gateway.run("systemctl status edgecore --no-pager")
    assert "Armadillo edge agent" in text
    assert "edgecore --config /etc/armadillo/edgecore.yaml" in text


def test_the_journal_keeps_levels_and_its_own_time(gateway):
    lines = gateway.run(
        "journalctl -u edgecore -o cat -p info _PID=$(systemctl show -P MainPID edgecore)"
    )
    assert "edgecore.edgehub.link: edgehub: joined cloudcore" in lines
    assert not any(line.startswith(("20", "<")) for line in lines.splitlines())
    gateway.run("systemctl restart containerd")  # the agent misses it, and says so as a warning
    wait_until(
        "a warning",
        lambda: "containerd.sock" in gateway.run("journalctl -u edgecore -o cat -p warning"),
        PATIENCE_S,
    )


def test_pods_run_on_while_the_agent_restarts_stops_and_dies(gateway):
    gateway.start("steady")
    before = gateway.kubectl.container("steady")["containerID"]
    for death in (
        "systemctl restart edgecore",
        "systemctl stop edgecore && systemctl start edgecore",
        "systemctl kill -s KILL edgecore",
    ):
        main = shown(gateway, "MainPID")["MainPID"]
        gateway.run(death, timeout_s=PATIENCE_S)
        wait_until(
            f"another agent after {death}",
            lambda main=main: (
                shown(gateway, "ActiveState")["ActiveState"] == "active"
                and shown(gateway, "MainPID")["MainPID"] != main
            ),
            PATIENCE_S,
        )
        assert gateway.run(COUNT_PODS).strip() == "1", death
    gateway.until_ready()
    after = gateway.kubectl.container("steady")
    assert (after["containerID"], after["restartCount"]) == (before, 0)
    gateway.delete("steady")


def test_after_a_reboot_without_a_cloud_pods_run_from_the_database_and_local_images(gateway):
    gateway.start("boots", restart="Always")
    gateway.cloud.kill("cloudcore")
    gateway.machine.reboot()
    wait_until(
        "the pod runs without a cloud",
        lambda: gateway.run(f"{COUNT_PODS} || true").strip() == "1",
        PATIENCE_S,
    )
    gateway.cloud.start("cloudcore")
    gateway.until_ready()
    wait_until(
        "the cloud knows of the restart",
        lambda: (
            gateway.kubectl.container("boots").get("restartCount") == 1
            and gateway.kubectl.container("boots")["ready"]
        ),
        PATIENCE_S,
    )
    assert gateway.kubectl.get("pod", "boots")["spec"]["nodeName"] == NODE
    gateway.delete("boots")


@pytest.fixture
def second_cloudcore(gateway):
    """cloudcore as a service of a user of its own beside the agent; a replica of the one that runs already."""
    layout, name = gateway.cloud.layout, socket.gethostname().lower()
    kubeconfig = (layout.cloudcore / "kubeconfig").read_text().replace("127.0.0.1", name)
    pki = layout.root / "pki"
    unit = SOURCES / "deploy/systemd/cloudcore.service"
    gateway.machine.put(
        {
            "/etc/armadillo/kubeconfig": kubeconfig,
            "/etc/armadillo/cloudcore.yaml": "kube: {kubeconfig: /etc/armadillo/kubeconfig}\n",
            "/etc/armadillo/pki/cloudcore.crt": (pki / "cloudcore.crt").read_bytes(),
            "/etc/armadillo/pki/cloudcore.key": (pki / "cloudcore.key").read_bytes(),
            "/etc/systemd/system/cloudcore.service": unit.read_text(),
        }
    )
    gateway.run("id armadillo || useradd --system --shell /usr/sbin/nologin armadillo")
    gateway.run(
        "cd /etc/armadillo && chown root:armadillo kubeconfig pki/cloudcore.key"
        " && chmod 640 kubeconfig pki/cloudcore.key && systemctl daemon-reload"
    )
    yield
    gateway.run("systemctl stop cloudcore; systemctl disable cloudcore")


def test_cloudcore_serves_as_a_service_of_a_user_without_rights(gateway, second_cloudcore):
    gateway.run("systemctl enable --now cloudcore", timeout_s=PATIENCE_S)
    assert gateway.run("systemctl is-active cloudcore").strip() == "active"
    main = gateway.run("systemctl show -P MainPID cloudcore").strip()
    status = gateway.run(f"cat /proc/{main}/status")
    assert "CapEff:\t0000000000000000" in status
    assert "Uid:\t0\t" not in status
    assert ":10000 " in gateway.run("ss -ltn")
    gateway.run("systemctl kill -s STOP cloudcore")  # as if its loop hung: the watchdog ends it
    wait_until(
        "another cloudcore",
        lambda: (
            gateway.run("systemctl show -P MainPID cloudcore").strip() not in (main, "0")
            and gateway.run("systemctl is-active cloudcore || true").strip() == "active"
        ),
        PATIENCE_S,
    )
    assert "Watchdog timeout" in gateway.run("journalctl -u cloudcore --no-pager")
