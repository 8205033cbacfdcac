"""What [NodeConformance] demands where the API is the point: watches, collections, statuses, leases, debuggers."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from tests.e2e.cluster import IMAGE, pod, wait_until

pytestmark = pytest.mark.timeout(300)

FOREVER = "echo polo; trap 'exit 0' TERM; while :; do sleep 0.2; done"
LONG_S = 90.0


@pytest.fixture(autouse=True)
def containers(runtime):
    """Conformance is asked of nodes with containers; the API is the same for the others."""
    if runtime == "process":
        pytest.skip("a node without containers")


def labelled(name, labels, script=FOREVER, **more):
    made = pod(name, script, restart="Always", **more)
    made["metadata"]["labels"] = labels
    return made


def running(kubectl, name):
    wait_until(f"{name} runs", lambda: condition(kubectl, name, "Ready") == "True", LONG_S)


def condition(kubectl, name, kind):
    found = (kubectl.get("pod", name) or {}).get("status", {}).get("conditions", [])
    return next((c["status"] for c in found if c["type"] == kind), None)


def names(kubectl, selector):
    found = kubectl.get("pods", "-l", selector) or {"items": []}
    return {item["metadata"]["name"] for item in found["items"]}


def events_of(path):
    """The events that `kubectl get -w --output-watch-events -o json` has written so far."""
    text, found, start = path.read_text(), [], 0
    while text[start:].strip():
        try:
            event, end = json.JSONDecoder().raw_decode(text[start:].lstrip())
        except ValueError:
            break  # the last one is being written
        start += len(text[start:]) - len(text[start:].lstrip()) + end
        found.append((event["type"], event["object"]))
    return found


def test_a_pod_is_watched_from_its_creation_over_an_update_to_its_graceful_end(kubectl, tmp_path):
    selector = "conformance=watched"
    assert names(kubectl, selector) == set()
    path = tmp_path / "events"
    flags = ("pods", "-l", selector, "--output-watch-events", "-o", "json")
    with path.open("w") as out:
        watch = kubectl.watch(*flags, out=out)
    try:
        kubectl.apply(labelled("watched", {"conformance": "watched"}, grace_s=30))
        assert names(kubectl, selector) == {"watched"}
        running(kubectl, "watched")
        address = kubectl.get("node", "edge-1")["status"]["addresses"]
        host_ip = kubectl.get("pod", "watched")["status"]["hostIP"]
        assert host_ip in [a["address"] for a in address if a["type"] == "InternalIP"]
        kubectl("label", "pod", "watched", "step=two")
        assert names(kubectl, "step=two") == {"watched"}
        running(kubectl, "watched")
        kubectl("delete", "pod", "watched", "--grace-period=30", timeout_s=60)
        wait_until("it is gone", lambda: "DELETED" in [kind for kind, _ in events_of(path)], LONG_S)
        seen = events_of(path)
    finally:
        watch.terminate()
        watch.wait(10)
    kinds = [kind for kind, _ in seen]
    assert (kinds[0], kinds[-1]) == ("ADDED", "DELETED")
    assert set(kinds[1:-1]) == {"MODIFIED"}
    assert "Running" in [made.get("status", {}).get("phase") for _, made in seen]
    last = seen[-1][1]
    assert last["metadata"]["deletionTimestamp"]
    assert last["spec"]["terminationGracePeriodSeconds"] == 30
    assert names(kubectl, selector) == set()


def test_a_collection_of_pods_is_deleted_by_its_label(kubectl):
    three = [f"collected-{n}" for n in range(3)]
    labels = {"conformance": "collected"}
    kubectl.apply(*(labelled(name, labels, grace_s=1) for name in three))
    for name in three:
        running(kubectl, name)
    path = "/api/v1/namespaces/default/pods?labelSelector=conformance%3Dcollected"
    kubectl("delete", "--raw", path, timeout_s=60)
    wait_until("all are gone", lambda: not names(kubectl, "conformance=collected"), LONG_S)


def test_a_status_that_somebody_else_writes_is_taken_and_set_right_by_the_node(kubectl):
    kubectl.apply(labelled("patched", {"conformance": "patched"}, grace_s=1))
    running(kubectl, "patched")
    wrong = [{"type": kind, "status": "False"} for kind in ("Ready", "ContainersReady")]
    said = {"message": "Patched by hand", "reason": "ByHand", "conditions": wrong}
    answer = json.loads(
        kubectl(
            *("patch", "pod", "patched", "--subresource=status", "--type=strategic"),
            *("-p", json.dumps({"status": said}), "-o", "json"),
        )
    )
    assert (answer["status"]["message"], answer["status"]["reason"]) == (
        "Patched by hand",
        "ByHand",
    )
    stated = {c["type"]: c["status"] for c in answer["status"]["conditions"]}
    assert (stated["Ready"], stated["ContainersReady"]) == ("False", "False")
    running(kubectl, "patched")  # the node knows better
    assert "reason" not in kubectl.get("pod", "patched")["status"]
    kubectl("patch", "pod", "patched", "--type=merge", "-p", '{"metadata":{"labels":{"a":"b"}}}')
    assert names(kubectl, "a=b") == {"patched"}
    kubectl.delete("pod", "patched")


def test_a_pod_is_ready_only_while_all_its_readiness_gates_are_open(kubectl):
    gates = ["example.com/one", "example.com/two"]
    spec = {"readinessGates": [{"conditionType": gate} for gate in gates]}
    kubectl.apply(labelled("twogates", {}, grace_s=1, spec=spec))
    wait_until(
        "its containers are ready",
        lambda: condition(kubectl, "twogates", "ContainersReady") == "True",
        LONG_S,
    )

    def set_gate(gate, status):
        tree = {"status": {"conditions": [{"type": gate, "status": status}]}}
        flags = ("--subresource=status", "--type=strategic", "-p", json.dumps(tree))
        kubectl("patch", "pod", "twogates", *flags)

    def why():
        found = kubectl.get("pod", "twogates")["status"]["conditions"]
        return next(c.get("message", "") for c in found if c["type"] == "Ready")

    assert condition(kubectl, "twogates", "Ready") == "False"
    set_gate(gates[0], "True")
    wait_until("one gate is known", lambda: gates[0] not in why() and gates[1] in why(), LONG_S)
    assert condition(kubectl, "twogates", "Ready") == "False"
    set_gate(gates[1], "True")
    running(kubectl, "twogates")
    set_gate(gates[0], "False")
    wait_until("it is unready", lambda: condition(kubectl, "twogates", "Ready") == "False", LONG_S)
    kubectl.delete("pod", "twogates")


def test_debuggers_join_a_pod_one_after_the_other(kubectl):
    kubectl.apply(labelled("debugged", {}, grace_s=1))
    running(kubectl, "debugged")
    loop = "while true; do echo polo; sleep 0.5; done"
    for name in ("debugger", "debugger2"):
        image = (f"--image={IMAGE}", "--image-pull-policy=IfNotPresent", "-c", name)
        kubectl("debug", "debugged", *image, "--", "sh", "-c", loop)
        wait_until(f"{name} runs", lambda n=name: n in debuggers(kubectl, "debugged"), LONG_S)
        assert kubectl("exec", "debugged", "-c", name, "--", "echo", "marco") == "marco\n"
        wait_until("its log", lambda n=name: "polo" in kubectl("logs", "debugged", "-c", n), LONG_S)
    spec = kubectl.get("pod", "debugged")["spec"]["ephemeralContainers"]
    assert [c["name"] for c in spec] == ["debugger", "debugger2"]
    assert kubectl.container("debugged")["restartCount"] == 0
    kubectl.delete("pod", "debugged")


def debuggers(kubectl, name):
    found = kubectl.get("pod", name)["status"].get("ephemeralContainerStatuses", [])
    return {s["name"] for s in found if "running" in s["state"]}


def test_the_nodes_lease_is_its_own_and_is_renewed(kubectl):
    flags = ("lease", "edge-1", "-n", "kube-node-lease")
    lease = wait_until("a lease", lambda: kubectl.get(*flags), LONG_S)
    assert lease["spec"]["holderIdentity"] == "edge-1"
    assert lease["spec"]["leaseDurationSeconds"] == 40
    (owner,) = lease["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["apiVersion"], owner["name"]) == ("Node", "v1", "edge-1")
    assert owner["uid"] == kubectl.get("node", "edge-1")["metadata"]["uid"]
    renewed = datetime.fromisoformat(lease["spec"]["renewTime"])
    wait_until("it is renewed", lambda: renew_time(kubectl, flags) > renewed, LONG_S)


def renew_time(kubectl, flags):
    return datetime.fromisoformat(kubectl.get(*flags)["spec"]["renewTime"])


def test_names_of_sysctls_that_cannot_be_any_are_refused_by_the_api(kubectl):
    names = ("foo-", "kernel.shmmax", "safe-and-unsafe", "bar..")
    sysctls = [{"name": name, "value": "42"} for name in names]
    spec = {"securityContext": {"sysctls": sysctls}}
    done = kubectl.run("apply", "-f", "-", stdin=json.dumps(labelled("odd", {}, spec=spec)))
    assert done.returncode == 1
    assert 'Invalid value: "foo-"' in done.stderr
    assert 'Invalid value: "bar.."' in done.stderr
    assert "safe-and-unsafe" not in done.stderr.replace(json.dumps(names), "")
