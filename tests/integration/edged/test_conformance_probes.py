"""What [NodeConformance] demands of probes, of app containers and of sidecars alike, on real containers."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path

import pytest

from synccore.messages import Op
from tests.fakes.pods import pod_object
from tests.integration.edged.lab import FOREVER, STUBBORN, deleted, shell

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[3]
PATIENCE_S = 120.0  # fifteen containers on a machine that does other work
LISTS = ("containerStatuses", "initContainerStatuses")
NOWHERE = "http://0.0.0.0/"
REDIRECTED = f"Probe terminated redirects, Response body: <a href={NOWHERE}>Found</a>."
# /good answers 200; /folder leads to /folder/, which is not there; /cgi-bin/away leads to another host.
WEB = f"""
trap 'exit 0' TERM; mkdir -p /w/folder /w/cgi-bin; echo ok > /w/good
printf '#!/bin/sh\\nprintf "Status: 302 Found\\\\r\\\\nLocation: {NOWHERE}\\\\r\\\\n\\\\r\\\\n<a href={NOWHERE}>Found</a>."\\n' > /w/cgi-bin/away
chmod +x /w/cgi-bin/away; httpd -p $PORT -h /w; touch /started; while :; do sleep 0.1; done
"""
HEALTH_SERVER = """
import asyncio, grpc
from edgecore.edged.probes.pb import health_pb2, health_pb2_grpc

class Health(health_pb2_grpc.HealthServicer):
    async def Check(self, request, context):
        return health_pb2.HealthCheckResponse(status="SERVING")

async def main():
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(Health(), server)
    server.add_insecure_port("0.0.0.0:5000")
    await server.start()
    await server.wait_for_termination()

asyncio.run(main())
"""


def once(**handler):
    """A probe whose first failure counts."""
    return {"periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 1, **handler}


def runs(*command, **fields):
    return once(exec={"command": list(command)}, **fields)


def web(name, port, path, **fields):
    """A web server whose liveness probe asks for `path` once it has started."""
    return shell(
        WEB,
        name,
        env=[{"name": "PORT", "value": str(port)}],
        startupProbe={**runs("test", "-e", "/started"), "failureThreshold": 300},
        livenessProbe=once(httpGet={"port": port, "path": path}),
        **fields,
    )


def condemned(prefix, first_port, **fields):
    """Containers that their liveness probe has restarted, each for another reason."""
    forgets = "touch /health; sleep 1; rm /health; " + FOREVER
    present = runs("cat", "/health", initialDelaySeconds=1)
    return [
        shell(forgets, f"{prefix}-forgets", livenessProbe=present, **fields),
        web(f"{prefix}-missing", first_port, "/missing", **fields),
        web(f"{prefix}-redirected", first_port + 1, "/folder", **fields),
        shell(
            name=f"{prefix}-slow", livenessProbe=runs("sleep", "600", timeoutSeconds=1), **fields
        ),
        shell(
            name=f"{prefix}-leftover",
            livenessProbe=runs("sh", "-c", "sleep 600 & exit 1", timeoutSeconds=1),
            **fields,
        ),
        # Startup ends well, and only then liveness is asked, and fails.
        shell(
            "sleep 1; touch /begun; " + FOREVER,
            f"{prefix}-begun",
            startupProbe={**runs("cat", "/begun"), "failureThreshold": 300},
            livenessProbe=runs("false"),
            **fields,
        ),
        shell(
            name=f"{prefix}-unbegun",
            startupProbe=runs("false"),
            livenessProbe=runs("true"),
            **fields,
        ),
    ]


def spared(prefix, first_port, **fields):
    """Containers whose liveness probe finds nothing wrong, or is not asked."""
    tcp = web(f"{prefix}-tcp", first_port, "", **fields)
    tcp["livenessProbe"] = once(tcpSocket={"port": first_port})
    return [
        shell("touch /health; " + FOREVER, f"{prefix}-keeps", livenessProbe=keeps(), **fields),
        web(f"{prefix}-found", first_port + 1, "/good", **fields),
        web(f"{prefix}-away", first_port + 2, "/cgi-bin/away", **fields),
        tcp,
        shell(
            name=f"{prefix}-held",
            startupProbe={**runs("false"), "failureThreshold": 10_000},
            livenessProbe=runs("false"),
            **fields,
        ),
    ]


def keeps():
    return runs("cat", "/health", initialDelaySeconds=2)


def counts(lab):
    statuses = [s for kind in LISTS for s in lab.status().get(kind, ())]
    return {s["name"]: s["restartCount"] for s in statuses}


async def test_liveness_restarts_the_app_containers_that_fail_and_no_other(lab):
    bad, good = condemned("bad", 8100), spared("good", 8200)
    async with lab.pod(*bad, *good, terminationGracePeriodSeconds=2):
        await assert_restarted(lab, bad, good)


async def test_liveness_restarts_the_sidecars_that_fail_and_no_other(lab):
    sidecar = {"restartPolicy": "Always"}
    *bad, unbegun = condemned("bad", 8100, **sidecar)
    *good, held = spared("good", 8200, **sidecar)
    # One that has not started holds back all after it: each of these two comes last in a pod of its own.
    waits = pod_object("waits", "u-waits", [shell()], initContainers=[held])
    sides = [*bad, *good, unbegun]
    async with lab.pod(shell(), initContainers=sides, terminationGracePeriodSeconds=2):
        await lab.put("Pod", waits)
        await assert_restarted(lab, [*bad, unbegun], good)
        status = lab.of(held["name"], "initContainerStatuses", "waits")
        assert (status["started"], status["restartCount"]) == (False, 0)
        assert lab.phase("waits") == "Pending"
        await lab.gone("waits", "u-waits")


async def assert_restarted(lab, bad, good):
    names = [c["name"] for c in bad]
    await lab.until(lambda: all(counts(lab).get(n, 0) >= 1 for n in names), PATIENCE_S)
    asked = [c["name"] for c in good]
    await lab.quiet(lambda: [counts(lab)[name] for name in asked], 1.5)
    assert {counts(lab)[name] for name in asked} == {0}


async def test_restarts_only_count_up_and_a_grace_of_the_probe_goes_before_that_of_the_pod(lab):
    app = shell(STUBBORN, livenessProbe=runs("false", terminationGracePeriodSeconds=1))
    async with lab.pod(app, terminationGracePeriodSeconds=500) as pod:
        await lab.until(lambda: lab.waiting().get("reason") == "CrashLoopBackOff", PATIENCE_S)
        await lab.skip(pod, 60)
        await lab.until(lambda: lab.of("app").get("restartCount", 0) >= 2, PATIENCE_S)
        last = lab.of("app")["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (137, "Error")
        await lab.delete(pod, 1)
    seen = restarts_reported(lab)
    assert seen == sorted(seen)
    assert {0, 1, 2} <= set(seen)


def restarts_reported(lab):
    """The app's restart count in every status that was reported, oldest first."""
    bodies = [r.body for r in lab.store.reports if r.key.kind == "Pod" and r.op is Op.UPSERT]
    statuses = [json.loads(body)["status"].get("containerStatuses", ()) for body in bodies]
    return [s["restartCount"] for found in statuses for s in found if s["name"] == "app"]


async def test_grpc_liveness_asks_the_pods_own_port(lab):
    (lab.folder / "health.py").write_text(HEALTH_SERVER)
    script = f"PYTHONPATH={ROOT} exec chroot /host {sys.executable} {lab.folder}/health.py"
    serves = shell(
        script,
        "serves",
        volumeMounts=[{"name": "host", "mountPath": "/host", "readOnly": True}],
        startupProbe={**once(grpc={"port": 5000}), "failureThreshold": 300},
        livenessProbe=once(grpc={"port": 5000}),
    )
    wrong = shell(name="wrong", livenessProbe=once(grpc={"port": 2333}, timeoutSeconds=1))
    host = {"name": "host", "hostPath": {"path": "/"}}
    async with lab.pod(serves, wrong, volumes=[host], terminationGracePeriodSeconds=2):
        await lab.until(lambda: lab.of("serves").get("started"), PATIENCE_S)
        await lab.until(lambda: lab.of("wrong").get("restartCount", 0) >= 1)
        await lab.quiet(lambda: lab.of("serves")["restartCount"])
        assert lab.of("serves")["restartCount"] == 0


async def test_readiness_waits_for_its_delay_follows_startup_at_once_and_restarts_nothing(lab):
    delayed = shell(name="delayed", readinessProbe=runs("true", initialDelaySeconds=3))
    prompt = shell(
        name="prompt",
        startupProbe=runs("true", initialDelaySeconds=1),
        readinessProbe={**runs("true"), "periodSeconds": 600},
    )
    slow = shell(name="slow", readinessProbe=runs("sleep", "600", timeoutSeconds=1))
    apps = [delayed, prompt, slow, web("away", 8301, "/cgi-bin/away")]
    sides = [{**app, "name": f"side-{app['name']}"} for app in (prompt, slow)]
    sides = [{**side, "restartPolicy": "Always"} for side in sides]
    async with lab.pod(*apps, initContainers=sides):
        await lab.until(lambda: lab.of("prompt").get("ready"))
        await lab.until(lambda: lab.of("side-prompt", "initContainerStatuses").get("ready"))
        await lab.until(lambda: lab.of("delayed").get("ready"))
        warning = f"Liveness probe warning: {REDIRECTED}"
        await lab.until(lambda: ("Warning", "ProbeWarning", warning) in lab.events())
        assert not lab.of("slow")["ready"]
        assert not lab.of("side-slow", "initContainerStatuses")["ready"]
        assert not lab.ready()
        unready = "containers with unready status: [side-slow slow]"
        assert lab.condition("Ready")["message"] == unready
        assert set(counts(lab).values()) == {0}


async def test_a_pod_is_not_ready_before_the_delays_of_its_readiness_probes(lab):
    asked = shell(name="app", readinessProbe=runs("true", initialDelaySeconds=2))
    side = {**asked, "name": "side", "restartPolicy": "Always"}
    async with lab.pod(asked, initContainers=[side]):
        await lab.until(lab.ready)
        for name, kind in zip(("app", "side"), LISTS, strict=True):
            started = lab.of(name, kind)["state"]["running"]["startedAt"]
            took = moment(lab.condition("Ready")["lastTransitionTime"]) - moment(started)
            assert took.total_seconds() >= 2
            assert lab.of(name, kind)["restartCount"] == 0


def moment(text):
    return datetime.fromisoformat(text)


async def test_a_pod_that_ends_is_asked_for_readiness_and_no_longer_for_liveness(lab):
    script = "trap 'rm /tmp/ready /tmp/alive' TERM; touch /tmp/ready /tmp/alive; while :; do sleep 0.1; done"
    app = shell(
        f"mkdir -p /tmp; {script}",
        startupProbe={**runs("cat", "/tmp/ready", "/tmp/alive"), "failureThreshold": 300},
        readinessProbe=runs("cat", "/tmp/ready"),
        livenessProbe=runs("cat", "/tmp/alive"),
    )
    async with lab.pod(app) as pod:
        await lab.until(lab.ready)
        pod["metadata"] |= deleted(600)
        await lab.put("Pod", pod)
        await lab.until(lambda: not lab.ready())
        await lab.quiet(lambda: "running" in lab.state(), 1.5)
        assert not any("iveness" in message for _, _, message in lab.events())
        await lab.delete(pod, 1)
