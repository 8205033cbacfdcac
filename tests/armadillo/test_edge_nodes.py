from __future__ import annotations

from armadillo.edge_nodes import secrets_of


def test_a_node_holds_every_secret_that_its_pods_refer_to():
    env = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}, {"name": "B"}]
    spec = {
        "imagePullSecrets": [{"name": "registry"}],
        "volumes": [
            {"name": "a", "secret": {"secretName": "mounted"}},
            {"name": "b", "projected": {"sources": [{"secret": {"name": "projected"}}, {}]}},
            {"name": "c", "emptyDir": {}},
        ],
        "initContainers": [{"name": "i", "env": env}],
        "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "all"}}, {"prefix": "x"}]}],
    }
    pod = {"metadata": {"name": "p", "namespace": "shop"}, "spec": spec}
    names = ["registry", "mounted", "projected", "env", "all"]
    assert list(secrets_of(pod)) == [f"shop/{name}" for name in names]


def test_a_pod_without_secrets_holds_none():
    assert list(secrets_of({"metadata": {"name": "p", "namespace": "shop"}})) == []
