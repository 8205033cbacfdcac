from __future__ import annotations

import json

from cloudcore.edgecontroller.nodefacts import NodeFacts
from cloudcore.kube.resources import KubeObject
from synccore.messages import ObjectKey


class Nodes(dict):
    """An informer's cache."""


def cache(**spec):
    key = ObjectKey("Node", "", "edge-1")
    metadata = {"name": "edge-1", "labels": {"site": "north"}}
    body = json.dumps({"metadata": metadata, "spec": spec}).encode()
    return Nodes({key: KubeObject(key, "u", "7", False, body)})


async def test_a_node_is_told_its_own_labels_and_taints():
    taint = {"key": "k", "value": "v", "effect": "NoExecute", "timeAdded": "2026-09-21T14:13:20Z"}
    status, body = await NodeFacts(cache(taints=[taint])).answer("edge-1", b"{}")
    assert status == 200
    assert json.loads(body) == {
        "labels": {"site": "north"},
        "taints": [{"key": "k", "value": "v", "effect": "NoExecute"}],
    }


async def test_a_node_that_is_not_registered_has_none():
    status, body = await NodeFacts(cache()).answer("edge-2", b"{}")
    assert (status, body) == (404, b'nodes "edge-2" not found')
