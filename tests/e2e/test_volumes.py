"""Persistent volumes through kubectl: bound by the cluster, mounted at the edge, kept when their pods go."""

from __future__ import annotations

from tests.e2e.cluster import container_log, pod, wait_until

NODE = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["edge-1"]}


def persistent_volume(name, path):
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "by-hand",
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [NODE]}]}},
        },
    }


def claim(name):
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "by-hand",
            "resources": {"requests": {"storage": "500Mi"}},
        },
    }


def using(name, script):
    container = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "kept"}}]
    return pod(name, script, container=container, spec={"volumes": volumes})


def test_what_a_pod_writes_to_a_claim_is_there_for_the_next_one(kubectl, up, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    kubectl.apply(using("first", "echo from-first > /data/file"), claim("kept"))
    wait_until("the pod says what it waits for", lambda: "unbound" in waits_for(kubectl, "first"))
    kubectl.apply(persistent_volume("disk-1", disk))
    wait_until("it has run", lambda: kubectl.pod_phase("first") == "Succeeded", 60)
    kubectl.delete("pod", "first")
    kubectl.apply(using("second", "cat /data/file"))
    wait_until("the second too", lambda: kubectl.pod_phase("second") == "Succeeded", 60)
    assert container_log(up.node_logs, kubectl.get("pod", "second")).endswith("from-first\n")

    shown = kubectl("get", "persistentvolumeclaims", "kept").splitlines()[1].split()
    assert shown[:5] == ["kept", "Bound", "disk-1", "1Gi", "RWO"]
    assert kubectl("get", "pv", "disk-1").splitlines()[1].split()[4:6] == ["Bound", "default/kept"]
    kubectl.delete("pod", "second")
    kubectl.delete("pvc", "kept")
    wait_until(
        "it is released", lambda: kubectl.get("pv", "disk-1")["status"]["phase"] == "Released"
    )
    kubectl.delete("pv", "disk-1")
    assert (disk / "file").read_text() == "from-first\n"


def waits_for(kubectl, name):
    """Return why a pod has no node."""
    found = kubectl.get("pod", name) or {}
    conditions = found.get("status", {}).get("conditions", [])
    return next((c.get("message", "") for c in conditions if c["type"] == "PodScheduled"), "")
