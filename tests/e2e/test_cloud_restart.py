"""Point 6: a cloudcore that was killed and started again sends nothing a second time; and who may be a node."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time

import yaml

from tests.e2e.cluster import pod, wait_until
from tests.fakes.mqtt import free_port

SENT = "armadillo_objects_sent_total"


def test_a_restarted_cloudcore_recreates_and_resends_nothing(parts):
    kubectl = parts.kubectl
    names = ["stays-1", "stays-2", "stays-3"]
    script = "trap 'exit 0' TERM; while :; do sleep 0.3; done"
    kubectl.apply(*(pod(name, script) for name in names))
    for name in names:
        wait_until(f"{name} runs", lambda n=name: kubectl.pod_phase(n) == "Running")
    assert parts.metric(SENT) >= len(names)
    before = {name: kubectl.container(name)["containerID"] for name in names}

    parts.kill("cloudcore")
    parts.start("cloudcore")
    wait_until("cloudcore answers", lambda: parts.metric(SENT) is not None)
    wait_until("the edge is back", lambda: _lease_moves(kubectl), 40)

    assert {name: kubectl.container(name)["containerID"] for name in names} == before
    assert parts.metric(SENT) == 0
    # And it is not merely idle: the next change goes out, alone.
    kubectl.apply(pod("next", script))
    wait_until("the next pod runs", lambda: kubectl.pod_phase("next") == "Running")
    assert 1 <= parts.metric(SENT) <= 3
    kubectl.delete("pod", *names, "next")


def edge(parts, *args, kubeconfig=None):
    """Return the finished `kubectl edge …`."""
    return subprocess.run(
        [sys.executable, "-m", "armadillo.kubectl_edge", *args],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "KUBECONFIG": str(kubeconfig or parts.plan.kubeconfig)},
    )


def kept(parts, *args, **more):
    done = edge(parts, "twin", "history", "lamp-01", "temperature", "-o", "json", *args, **more)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_values_are_kept_and_watched_over_a_restart_of_cloudcore(parts):
    patch = '[{"op":"add","path":"/spec/properties/2/history","value":{"keepSeconds":600}}]'
    parts.kubectl("patch", "device", "lamp-01", "--type", "json", "-p", patch)
    before = wait_until("a value is kept", lambda: kept(parts), 60)
    command = [sys.executable, "-m", "armadillo.kubectl_edge", "twin", "watch", "lamp-01"]
    command += ["-o", "json"]
    env = {**os.environ, "KUBECONFIG": str(parts.plan.kubeconfig)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as watching:
        try:
            shown = [_watched(watching)]
            parts.kill("cloudcore")
            parts.start("cloudcore")
            wait_until("cloudcore answers", lambda: parts.metric(SENT) is not None)
            shown += [_watched(watching) for _ in range(3)]
        finally:
            watching.terminate()
    after = wait_until("a later value", lambda: _longer(kept(parts), before), 60)
    assert after[: len(before)] == before
    (newest,) = kept(parts, "--limit", "1")
    assert newest["timeMs"] >= after[-1]["timeMs"]
    table = edge(parts, "twin", "history", "lamp-01", "temperature", "-o", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(table)))
    assert (rows[0]["device"], float(rows[0]["value"])) == ("default/lamp-01", before[0]["value"])

    # Each of what is kept was shown once; a kill may cost what cloudcore had just shown, and had not written yet.
    stored = [
        one for one in kept(parts) if shown[0]["timeMs"] < one["timeMs"] <= shown[-1]["timeMs"]
    ]
    assert [one for one in shown if one in stored] == stored


def _watched(watching):
    while True:
        value = json.loads(watching.stdout.readline())
        if value["property"] == "temperature":
            return value


def _longer(found, before):
    return found if len(found) > len(before) else None


def test_a_token_reads_the_values_that_its_account_may_see_and_no_others(parts, tmp_path):
    kubectl = parts.kubectl
    kubectl("create", "serviceaccount", "reader")
    devices = "--resource=devices.devices.kubeedge.io"
    kubectl("create", "role", "lamp", "--verb=get,watch", devices, "--resource-name=lamp-01")
    kubectl("create", "rolebinding", "lamp", "--role=lamp", "--serviceaccount=default:reader")
    config = yaml.safe_load(parts.plan.kubeconfig.read_text())
    plugin = tmp_path / "plugin"
    token = kubectl("create", "token", "reader").strip()
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps({**answer, 'status': {'token': token}})}'\n")
    plugin.chmod(0o700)
    shown = {"apiVersion": answer["apiVersion"], "command": str(plugin), "interactiveMode": "Never"}
    for user in ({"token": token}, {"exec": shown}):
        config["users"][0]["user"] = user
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        assert wait_until("values are kept", lambda p=path: kept(parts, kubeconfig=p), 60)
        refused = edge(parts, "twin", "history", "lamp-02", "temperature", kubeconfig=path)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "may not get device default/lamp-02" in refused.stderr
    config["users"][0]["user"] = {"token": token + "x"}
    path.write_text(yaml.safe_dump(config))
    refused = edge(parts, "twin", "watch", "lamp-01", kubeconfig=path)
    assert (refused.returncode, "does not know this token" in refused.stderr) == (1, True)


def test_a_second_edge_with_the_same_node_name_is_refused_by_name(parts, tmp_path):
    settings = yaml.safe_load(parts.node.settings.read_text())
    settings["store"]["path"] = str(tmp_path / "edge.db")
    settings["pods"].update(runtime="process", root_dir=str(tmp_path / "pods"))
    settings["pods"]["log_dir"] = str(tmp_path / "logs")
    settings["broker"]["embedded_address"] = f"127.0.0.1:{free_port()}"
    path = tmp_path / "second.yaml"
    path.write_text(yaml.safe_dump(settings))
    output = tmp_path / "second.log"
    with output.open("wb") as out:
        second = subprocess.Popen(
            [sys.executable, "-m", "edgecore", "--config", str(path)], stdout=out, stderr=out
        )
    try:
        wait_until("it is refused", lambda: "edge-1" in _warnings(output.read_text()), 20)
    finally:
        second.terminate()
        second.wait(12)
    assert parts.kubectl.node_ready("edge-1") == "True"


def _warnings(text):
    return "\n".join(line for line in text.splitlines() if " WARNING " in line or " ERROR " in line)


def _lease_moves(kubectl):
    lease = ("lease", "edge-1", "-n", "kube-node-lease")
    if (before := kubectl.get(*lease)) is None:  # the node is not there yet
        return False
    time.sleep(1.5)
    return kubectl.get(*lease)["spec"]["renewTime"] != before["spec"]["renewTime"]


def test_a_gateway_in_wrong_hands_is_thrown_out_and_let_in_again(parts):
    wait_until("the edge is connected", lambda: _lease_moves(parts.kubectl), 40)
    assert _edge(parts, "node", "revoke", "Edge_1") == (
        2,
        "kubectl-edge: 'Edge_1' is not a possible name of a node\n",
    )
    status, said = _edge(parts, "node", "revoke", "edge-1")
    assert (status, said.splitlines()[0].endswith("its connection ends now")) == (0, True)
    wait_until("it is told", lambda: "FORBIDDEN: certificates of node" in parts.log("edge-1"))
    wait_until("it is not heard of", lambda: parts.kubectl.node_ready("edge-1") != "True", 40)
    wait_until("it is refused", lambda: "PERMISSION_DENIED: certif" in parts.log("edge-1"), 40)

    assert _edge(parts, "node", "admit", "edge-1")[0] == 0
    wait_until("it is back", lambda: parts.kubectl.node_ready("edge-1") == "True", 60)

    assert _edge(parts, "node", "revoke", "edge-9")[1].endswith(
        "there is no node edge-9 in this cluster: is the name right?\n"
    )
    assert _edge(parts, "node", "admit", "edge-9") == (
        0,
        "edge-9: every certificate of it counts again\n",
    )
    assert _edge(parts, "node", "admit", "edge-9") == (
        0,
        "edge-9: no certificate of it was revoked\n",
    )


def _edge(parts, *args):
    command = [sys.executable, "-m", "armadillo.kubectl_edge"]
    command += ["--kubeconfig", str(parts.plan.kubeconfig), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr
