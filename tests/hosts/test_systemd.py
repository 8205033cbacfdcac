"""The agent as a service of a real systemd: start, restart, stop, death, logs, reboot."""

from __future__ import annotations

from tests.e2e.cluster import wait_until
from tests.hosts.gateway import NODE, PATIENCE_S

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
