"""Tokens are issued with the node's rights, bound to a pod, and nothing else can be asked for."""

from __future__ import annotations

import json

import pytest

from cloudcore.edgecontroller.reports import NodeApi
from cloudcore.edgecontroller.tokens import TokenRequests
from cloudcore.kube.client import KubeClient
from tests.fakes.kubeapi import Fault

QUESTION = {
    "namespace": "default",
    "serviceAccount": "robot",
    "audiences": ["vault"],
    "expirationSeconds": 600,
    "pod": {"name": "web", "uid": "u-1"},
}


@pytest.fixture
async def tokens(api):
    api.put("serviceaccounts", {"metadata": {"name": "robot", "namespace": "default"}})
    async with KubeClient(api.endpoint(), timeout_s=2.0) as client:
        yield TokenRequests(NodeApi(client))


async def ask(tokens, **changes):
    status, body = await tokens.answer("edge-1", json.dumps(QUESTION | changes).encode())
    return status, body


async def test_a_token_is_made_by_the_node_and_bound_to_its_pod(api, tokens):
    status, body = await ask(tokens)
    assert status == 200
    assert json.loads(body)["token"].startswith("token-")
    (seen,) = api.sent("post", "serviceaccounts")
    assert (seen.path, seen.node) == (
        "/api/v1/namespaces/default/serviceaccounts/robot/token",
        "edge-1",
    )
    assert seen.body["spec"] == {
        "audiences": ["vault"],
        "expirationSeconds": 600,
        "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "u-1"},
    }


@pytest.mark.parametrize("code", [403, 404, 422, 429, 500])
async def test_what_the_api_server_says_against_it_goes_back(api, tokens, code):
    api.faults.append(Fault("post", status=code, message="no, because"))
    status, body = await ask(tokens)
    assert (status, b"no, because" in body) == (code, True)


async def test_an_api_server_that_does_not_answer_is_503(api, tokens):
    api.faults.append(Fault("post", how="drop"))
    assert (await ask(tokens))[0] == 503


@pytest.mark.parametrize(
    "changes",
    [
        {"pod": None},
        {"pod": {"name": "web"}},
        {"serviceAccount": "../../secrets/x"},
        {"namespace": "a/b"},
        {"audiences": "vault"},
        {"expirationSeconds": "soon"},
    ],
)
async def test_a_question_that_is_none_is_400_and_asks_nobody(api, tokens, changes):
    assert (await ask(tokens, **changes))[0] == 400
    assert api.sent("post") == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"x":' + b"[" * 60_000]
)
async def test_garbage_is_400(tokens, body):
    assert (await tokens.answer("edge-1", body))[0] == 400
