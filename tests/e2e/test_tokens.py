"""Service account tokens through kubectl: a pod's own token opens the API, and only as far as its account may go."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.e2e.cluster import container_log, pod, wait_until

FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


# What the API server adds by itself where pods run in containers.
BY_HAND = {
    "name": "api",
    "projected": {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {
                "downwardAPI": {
                    "items": [
                        {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
                    ]
                }
            },
        ]
    },
}


def test_a_pod_reads_its_token_and_the_api_accepts_it(kubectl, up, runtime):
    if "serviceaccounts/token" not in kubectl("get", "--raw", "/api/v1"):
        pytest.skip("this API server issues no tokens")
    kubectl("create", "serviceaccount", "robot")
    kubectl("create", "role", "reader", "--verb=get", "--resource=configmaps")
    kubectl("create", "rolebinding", "robot", "--role=reader", "--serviceaccount=default:robot")
    kubectl.apply(config_map("open", said="hello"))
    script = f"cat {FOLDER}/token; echo; cat {FOLDER}/namespace; echo; sleep 60"
    spec, container = {"serviceAccountName": "robot"}, {}
    if runtime == "process":
        spec |= {"volumes": [BY_HAND]}
        container = {"volumeMounts": [{"name": "api", "mountPath": FOLDER}]}
    kubectl.apply(pod("robot", script, spec=spec, container=container))
    wait_until("the pod runs", lambda: kubectl.pod_phase("robot") == "Running", 60)
    lines = wait_until("it has read its token", lambda: written(kubectl, up), 30)
    assert lines[1] == "default"

    config = yaml.safe_load((up.state / "kubeconfig").read_text())["clusters"][0]["cluster"]
    maps = "/api/v1/namespaces/default/configmaps/open"
    status, found = ask(config, maps, lines[0])
    assert (status, found["data"]) == (200, {"said": "hello"})
    status, found = ask(config, "/api/v1/namespaces/default/secrets", lines[0])
    assert status == 403
    assert "system:serviceaccount:default:robot" in found["message"]
    kubectl.delete("pod", "robot")
    wait_until("the token has died with its pod", lambda: ask(config, maps, lines[0])[0] == 401)
    kubectl.delete("configmap", "open")
    kubectl.delete("rolebinding", "robot")
    kubectl.delete("role", "reader")
    kubectl.delete("serviceaccount", "robot")


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def written(kubectl, up):
    """Return what the pod wrote, once it is all there."""
    raw = container_log(up.node_logs, kubectl.get("pod", "robot"))
    texts = [line.split(" ", 3)[3] for line in raw.splitlines()]
    return texts if len(texts) == 2 else None


def ask(cluster, path, token):
    """Return (status, body) of a GET with a token and nothing else."""
    context = ssl.create_default_context(cadata=authority(cluster))
    request = urllib.request.Request(
        cluster["server"] + path, headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, context=context, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as exc:
        return exc.code, json.load(exc)


def authority(cluster):
    """Return the PEM of the cluster's authority, from its file or from the kubeconfig itself."""
    if data := cluster.get("certificate-authority-data"):
        return base64.b64decode(data).decode()
    return Path(cluster["certificate-authority"]).read_text()
