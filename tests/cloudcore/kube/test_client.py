from __future__ import annotations

import dataclasses
import json
import socket
import ssl
from contextlib import aclosing

import pytest

from cloudcore.kube.client import KubeClient
from cloudcore.kube.errors import (
    KubeConflictError,
    KubeForbiddenError,
    KubeGoneError,
    KubeMalformedError,
    KubeNotFoundError,
    KubeThrottledError,
    KubeUnauthorizedError,
    KubeUnreachableError,
)
from corekit.errors import KubeApiError
from tests.fakes.kubeapi import Fault, until

POD = {"metadata": {"name": "web", "namespace": "default"}, "spec": {}}
WATCH = {"watch": "true", "resourceVersion": "0"}


async def test_a_get_returns_the_bytes_of_the_object(api, client):
    api.put("pods", POD)
    body = await client.get("/api/v1/namespaces/default/pods/web")
    assert json.loads(body)["metadata"]["name"] == "web"


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, KubeApiError, False),
        (401, KubeUnauthorizedError, True),
        (403, KubeForbiddenError, False),
        (404, KubeNotFoundError, False),
        (409, KubeConflictError, False),
        (410, KubeGoneError, False),
        (429, KubeThrottledError, True),
        (500, KubeUnreachableError, True),
        (503, KubeUnreachableError, True),
    ],
)
async def test_each_status_becomes_its_own_error(api, client, status, kind, retryable):
    api.faults.append(Fault("get", status))
    with pytest.raises(KubeApiError) as caught:
        await client.get("/api/v1/namespaces/default/pods/web")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.retryable) == (status, retryable)
    assert "GET /api/v1/namespaces/default/pods/web: as scripted" in str(caught.value)


async def test_a_throttled_answer_says_how_long_to_wait(api, client):
    api.faults.append(Fault("get", 429, retry_after="7"))
    with pytest.raises(KubeThrottledError) as caught:
        await client.get("/api/v1/namespaces/default/pods/web")
    assert caught.value.retry_after_s == 7.0


async def test_writes_as_a_node_carry_its_identity_and_their_content_type(api, client):
    api.put("pods", POD)
    path = "/api/v1/namespaces/default/pods/web/status"
    await client.patch(path, b'{"status":{"phase":"Running"}}', impersonate_node="edge-1")
    seen = api.sent("patch")[0]
    assert (seen.node, seen.content_type) == ("edge-1", "application/merge-patch+json")


async def test_a_dropped_connection_and_a_closed_port_are_unreachable(api, client):
    api.faults.append(Fault("post", how="drop"))
    with pytest.raises(KubeUnreachableError):
        await client.post("/api/v1/namespaces/default/pods", json.dumps(POD).encode())
    await api.__aexit__()
    with pytest.raises(KubeUnreachableError, match="GET /api"):
        await client.get("/api/v1/pods")


async def test_a_server_of_another_authority_is_refused(api):
    endpoint = dataclasses.replace(api.endpoint(), tls=ssl.create_default_context())
    async with KubeClient(endpoint) as client:
        with pytest.raises(KubeUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.get("/api/v1/pods")
    assert api.requests == []


async def test_an_answer_that_does_not_come_ends_at_the_deadline(api):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never says a word
        server = f"https://127.0.0.1:{silent.getsockname()[1]}"
        endpoint = dataclasses.replace(api.endpoint(), server=server)
        async with KubeClient(endpoint, timeout_s=0.2) as client:
            with pytest.raises(KubeUnreachableError, match="no answer in time"):
                await client.get("/api/v1/pods")


async def test_a_stream_yields_whole_lines(api, client):
    for name in ("a", "b"):
        api.put("pods", {"metadata": {"name": name, "namespace": "default"}})
    lines = client.stream("/api/v1/pods", WATCH)
    async with aclosing(lines):
        got = [json.loads(await anext(lines))["object"]["metadata"]["name"] for _ in range(2)]
    assert got == ["a", "b"]


async def test_a_stream_cut_inside_a_line_is_an_error_not_an_event(api, client):
    api.put("pods", POD)
    api.faults.append(Fault("watch", how="cut"))
    with pytest.raises(KubeUnreachableError, match="inside a line"):
        await anext(client.stream("/api/v1/pods", WATCH))


async def test_a_line_without_end_is_refused_with_its_limit(api, client):
    api.faults.append(Fault("watch", how="huge"))
    with pytest.raises(KubeMalformedError, match="larger than 8388608 bytes"):
        await anext(client.stream("/api/v1/pods", WATCH))


async def test_leaving_a_stream_frees_its_connection(api, client):
    api.put("pods", POD)
    lines = client.stream("/api/v1/pods", WATCH)
    async with aclosing(lines):
        await anext(lines)
        assert api.open_watches == 1
    await until(lambda: not api.open_watches)
