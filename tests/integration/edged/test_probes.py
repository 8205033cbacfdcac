"""Probes against real containers: every type, every threshold, and what follows from their verdicts."""

from __future__ import annotations

import pytest

from tests.fakes.pods import pod_object
from tests.integration.edged.lab import shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(120)]

MOUNT = [{"name": "shared", "mountPath": "/shared"}]
SHARED = [{"name": "shared", "emptyDir": {}}]
EVERY_SECOND = {"periodSeconds": 1, "failureThreshold": 1}
# busybox's httpd answers 200 for a file that is there and 404 otherwise; nc accepts and says nothing.
WEB = "trap 'exit 0' TERM; mkdir /w; echo ok > /w/fine; httpd -p 8080 -h /w; while :; do sleep 0.1; done"
PORTS = [{"name": "web", "containerPort": 8080}]


def exists(path, **fields):
    return {"exec": {"command": ["test", "-e", path]}, **EVERY_SECOND, **fields}


def http(path="/fine", **fields):
    more = {k: fields.pop(k) for k in ("host", "scheme", "httpHeaders") if k in fields}
    return {"httpGet": {"port": "web", "path": path, **more}, **EVERY_SECOND, **fields}


def unhealthy(lab):
    return [message for _, reason, message in lab.events() if reason == "Unhealthy"]


def shared(lab):
    return lab.folder / "pods/volumes/u-1/volumes/kubernetes.io~empty-dir/shared"


async def test_readiness_follows_its_command_both_ways_and_restarts_nothing(lab):
    app = shell(volumeMounts=MOUNT, readinessProbe=exists("/shared/ready"))
    async with lab.pod(app, volumes=SHARED):
        await lab.until(lambda: lab.phase() == "Running")
        assert (lab.of("app")["ready"], lab.of("app")["started"]) == (False, True)
        assert lab.condition("Ready")["message"] == "containers with unready status: [app]"
        await lab.until(lambda: unhealthy(lab))
        (shared(lab) / "ready").touch()
        await lab.until(lab.ready)
        (shared(lab) / "ready").unlink()
        await lab.until(lambda: not lab.ready())
        assert lab.of("app")["restartCount"] == 0


async def test_a_container_that_fails_liveness_is_killed_and_restarted(lab):
    app = shell(volumeMounts=MOUNT, livenessProbe=exists("/shared/alive", failureThreshold=2))
    async with lab.pod(app, volumes=SHARED, terminationGracePeriodSeconds=2):
        await lab.until(lambda: lab.of("app").get("restartCount") == 1)
        (shared(lab) / "alive").touch()
        await lab.until(lab.ready)
        restarts = lab.of("app")["restartCount"]
        await lab.quiet(lambda: lab.of("app")["restartCount"])
        assert restarts >= 1
    assert "Liveness probe failed: " in unhealthy(lab)
    message = "Container app failed liveness probe, will be restarted"
    assert ("Normal", "Killing", message) in lab.events()


async def test_startup_holds_back_liveness_and_readiness_until_it_succeeds(lab):
    app = shell(
        volumeMounts=MOUNT,
        startupProbe=exists("/shared/started", failureThreshold=100),
        livenessProbe=exists("/shared/alive"),
        readinessProbe=exists("/shared/ready"),
    )
    async with lab.pod(app, volumes=SHARED):
        await lab.until(lambda: unhealthy(lab))
        await lab.quiet(lambda: set(unhealthy(lab)), 2)
        assert set(unhealthy(lab)) == {"Startup probe failed: "}
        assert (lab.of("app")["started"], lab.of("app")["ready"]) == (False, False)
        for name in ("alive", "ready", "started"):
            (shared(lab) / name).touch()
        await lab.until(lab.ready)
        assert lab.of("app")["started"] is True
        assert lab.of("app")["restartCount"] == 0


async def test_a_container_that_never_starts_up_is_killed_with_the_grace_of_its_probe(lab):
    stubborn = "trap '' TERM; while :; do sleep 0.1; done"
    probe = exists("/never", terminationGracePeriodSeconds=1)
    async with lab.pod(
        shell(stubborn, startupProbe=probe), terminationGracePeriodSeconds=500
    ) as pod:
        await lab.until(lambda: lab.of("app").get("restartCount") == 1)
        await lab.delete(pod, 1)
    message = "Container app failed startup probe, will be restarted"
    assert ("Normal", "Killing", message) in lab.events()


async def test_a_failed_probe_fails_a_pod_that_never_restarts(lab):
    async with lab.pod(shell(livenessProbe=exists("/never")), restartPolicy="Never"):
        await lab.until(lambda: lab.phase() in ("Failed", "Succeeded"))
        assert lab.of("app")["restartCount"] == 0


async def test_http_finds_its_port_by_name_and_judges_by_status(lab):
    good = shell(WEB, "good", ports=PORTS, readinessProbe=http())
    async with lab.pod(good):
        await lab.until(lab.ready)
    bad = shell(WEB, "bad", ports=PORTS, readinessProbe=http("/missing"))
    async with lab.pod(bad):
        wanted = "Readiness probe failed: HTTP probe failed with statuscode: 404"
        await lab.until(lambda: wanted in unhealthy(lab))
        assert not lab.ready()


async def test_http_and_tcp_say_who_refused_the_connection(lab):
    quiet = shell(readinessProbe={"tcpSocket": {"port": 81}, **EVERY_SECOND})
    web = shell(name="web", ports=PORTS, readinessProbe=http())
    async with lab.pod(quiet, web):
        await lab.until(lambda: len(set(unhealthy(lab))) == 2)
        ip = lab.status()["podIP"]
        refused = f"dial tcp {ip}:8080: connect: connection refused"
        assert set(unhealthy(lab)) == {
            f"Readiness probe failed: dial tcp {ip}:81: connect: connection refused",
            f'Readiness probe failed: Get "http://{ip}:8080/fine": {refused}',
        }


async def test_a_tcp_probe_is_content_with_a_connection(lab):
    app = shell(WEB, readinessProbe={"tcpSocket": {"port": 8080}, **EVERY_SECOND})
    async with lab.pod(app):
        await lab.until(lab.ready)


async def test_a_probe_of_another_host_leaves_the_pod_alone(lab):
    app = shell(WEB, ports=PORTS, livenessProbe=http(host="127.0.0.1", failureThreshold=100))
    async with lab.pod(app):
        await lab.until(lambda: unhealthy(lab))
        assert "http://127.0.0.1:8080/fine" in unhealthy(lab)[0]


async def test_a_command_that_takes_too_long_has_failed_and_one_that_is_not_there_says_nothing(lab):
    slow = shell(
        name="slow", readinessProbe={"exec": {"command": ["sleep", "600"]}, **EVERY_SECOND}
    )
    odd = shell(name="odd", livenessProbe={"exec": {"command": ["/no/such"]}, **EVERY_SECOND})
    async with lab.pod(slow, odd):
        wanted = 'Readiness probe failed: command timed out: "sleep 600" timed out after 1s'
        await lab.until(lambda: wanted in unhealthy(lab))
        errored = "Liveness probe errored and resulted in unknown state: "
        await lab.until(lambda: any(errored in m and "/no/such" in m for m in unhealthy(lab)))
        assert lab.of("odd")["restartCount"] == 0


async def test_readiness_is_watched_to_the_end_of_a_deleted_pod(lab):
    script = "trap 'rm /shared/ready' TERM; touch /shared/ready; while :; do sleep 0.1; done"
    app = shell(script, volumeMounts=MOUNT, readinessProbe=exists("/shared/ready"))
    async with lab.pod(app, volumes=SHARED) as pod:
        await lab.until(lab.ready)
        pod["metadata"] |= {
            "deletionTimestamp": "2026-11-23T08:00:00Z",
            "deletionGracePeriodSeconds": 600,
        }
        await lab.put("Pod", pod)
        await lab.until(lambda: not lab.ready())
        assert "running" in lab.state()
        await lab.delete(pod, 1)


async def test_readiness_gates_hold_the_pod_back_until_others_open_them(lab):
    gates = [{"conditionType": "example.com/lb"}]
    async with lab.pod(shell(), readinessGates=gates) as pod:
        await lab.until(lambda: lab.condition("ContainersReady").get("status") == "True")
        ready = lab.condition("Ready")
        assert (ready["status"], ready["reason"]) == ("False", "ReadinessGatesNotReady")
        assert ready["message"] == (
            'corresponding condition of pod readiness gate "example.com/lb" does not exist.'
        )
        pod["status"] = {"conditions": [{"type": "example.com/lb", "status": "True"}]}
        await lab.put("Pod", pod)
        await lab.until(lab.ready)


async def test_a_restarted_agent_leaves_a_ready_pod_ready_and_asks_again(lab):
    app = shell(volumeMounts=MOUNT, readinessProbe=exists("/shared/ready"))
    async with lab.running():
        await lab.put("Pod", pod_object(containers=[app], volumes=SHARED))
        await lab.until(lambda: lab.phase() == "Running")
        (shared(lab) / "ready").touch()
        await lab.until(lab.ready)
    seen = len(lab.store.reports)
    async with lab.running():
        await lab.quiet(lab.ready)
        assert [r for r in lab.store.reports[seen:] if r.key.kind == "Pod"] == []
        (shared(lab) / "ready").unlink()
        await lab.until(lambda: not lab.ready())
        await lab.gone()
