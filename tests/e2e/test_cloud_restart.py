"""Point 6: a cloudcore that was killed and started again sends nothing a second time; and who may be a node."""

from __future__ import annotations

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
    before = kubectl.get(*lease)["spec"]["renewTime"]
    time.sleep(1.5)
    return kubectl.get(*lease)["spec"]["renewTime"] != before


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


def _edge(parts, *args):
    command = [sys.executable, "-m", "armadillo.kubectl_edge"]
    command += ["--kubeconfig", str(parts.plan.kubeconfig), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr
