"""The subresources that ask a kubelet, by hand-made requests."""

from __future__ import annotations

import pytest
from aiohttp import WSServerHandshakeError

from tests.fakes.kubelet import V4, FakeKubelet
from tests.kubecore.samples import make_pod
from tests.kubecore.server import Certificates

pytestmark = pytest.mark.timeout(30)
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
async def kubelet(certificates):
    async with FakeKubelet(certificates.server, certificates.authority.pair.cert_file) as fake:
        yield fake


async def start_pod(admin, node, name="web", *containers):
    await admin.post("/api/v1/nodes", node)
    made = [{"name": c, "image": "busybox"} for c in containers or ("c",)]
    await admin.post(PODS, make_pod(name, containers=made))
    await admin.post(f"{PODS}/{name}/binding", {"target": {"name": node["metadata"]["name"]}})


async def test_a_kubelets_refusal_of_a_log_reaches_the_client(admin, kubelet):
    await start_pod(admin, kubelet.node(), "web", "waiting")
    status, body = await admin.get(f"{PODS}/web/log")
    assert (status, body["reason"]) == (400, "BadRequest")
    assert "is waiting to start: ContainerCreating" in body["message"]


async def test_a_node_that_is_not_connected_is_said_in_upstreams_words(admin, kubelet):
    node = kubelet.node()
    node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] = 1
    await start_pod(admin, node)
    for path in ("log", "exec?command=ls&stdout=1"):
        status, body = await admin.get(
            f"{PODS}/web/{path}", Connection="Upgrade", Upgrade="SPDY/3.1"
        )
        assert (status, body["reason"]) == (500, "InternalError")
        assert "error dialing backend: dial tcp 127.0.0.1:1: " in body["message"]
        assert "node n1 is not connected" in body["message"]


async def test_a_kubelet_with_a_certificate_of_another_authority_is_not_trusted(
    admin, certificates, tmp_path
):
    other = Certificates(tmp_path)
    async with FakeKubelet(other.server, certificates.authority.pair.cert_file) as impostor:
        await start_pod(admin, impostor.node())
        for path in ("log", "exec?command=ls&stdout=1"):
            status, body = await admin.get(
                f"{PODS}/web/{path}", Connection="Upgrade", Upgrade="SPDY/3.1"
            )
            assert (status, "certificate verify failed" in body["message"]) == (500, True)
        assert impostor.asked == []


async def test_a_command_without_an_upgrade_is_refused(admin, kubelet):
    await start_pod(admin, kubelet.node())
    status, body = await admin.post(f"{PODS}/web/exec?command=ls&stdout=true", {})
    assert (status, body["message"]) == (400, "Upgrade request required")
    status, body = await admin.put(f"{PODS}/web/exec?command=ls", {})
    assert status == 405
    status, _ = await admin.get(f"{PODS}/none/log")
    assert status == 404


async def test_the_older_websocket_protocol_is_passed_through(server, admin, kubelet):
    await start_pod(admin, kubelet.node())
    url = f"{server.base}{PODS}/web/exec?command=echo&command=hi&stdout=true&stderr=true"
    async with admin.session.ws_connect(url, protocols=[V4]) as socket:
        assert socket.protocol == V4
        got = [message.data async for message in socket]
    assert got == [b"\1hi\n", b'\3{"metadata": {}, "status": "Success"}']
    assert kubelet.asked == ["/exec/default/web/c?command=echo&command=hi&output=1&error=1"]


@pytest.mark.parametrize(
    ("protocols", "sent"),
    [
        ((), [b"", b"one\ntwo\n"]),
        (("binary.k8s.io",), [b"", b"one\ntwo\n"]),
        (("base64.binary.k8s.io",), ["", "b25lCnR3bwo="]),
    ],
)
async def test_a_log_comes_over_a_websocket_as_messages(server, admin, kubelet, protocols, sent):
    await start_pod(admin, kubelet.node())
    url = f"{server.base}{PODS}/web/log?container=c"
    async with admin.session.ws_connect(url, protocols=protocols) as socket:
        assert socket.protocol == (protocols[0] if protocols else None)
        assert [message.data async for message in socket] == sent
    assert kubelet.asked == ["/containerLogs/default/web/c"]


async def test_a_kubelets_refusal_of_a_log_reaches_a_websocket_client_before_it_is_one(
    server, admin, kubelet
):
    await start_pod(admin, kubelet.node(), "web", "waiting")
    with pytest.raises(WSServerHandshakeError) as caught:
        await admin.session.ws_connect(f"{server.base}{PODS}/web/log")
    assert caught.value.status == 400


async def test_the_kubelets_own_paths_are_proxied_and_redirects_are_not_followed(admin, kubelet):
    await admin.post("/api/v1/nodes", kubelet.node())
    status, text = await admin.get("/api/v1/nodes/n1/proxy/stats/summary?only_cpu=true")
    assert (status, text) == (200, "GET /stats/summary?only_cpu=true ")
    status, text = await admin("POST", "/api/v1/nodes/n1/proxy/run/x", b"body")
    assert text == "POST /run/x body"
    async with admin.session.get(
        f"{admin.base}/api/v1/nodes/n1/proxy/redirect", allow_redirects=False
    ) as answer:
        assert answer.status == 302


async def test_an_upgrade_goes_through_the_nodes_proxy(server, admin, kubelet):
    await start_pod(admin, kubelet.node())
    path = "/exec/default/web/c?command=echo&command=hi&output=1"
    url = f"{server.base}/api/v1/nodes/n1/proxy{path}"
    async with admin.session.ws_connect(url, protocols=[V4]) as socket:
        assert await socket.receive_bytes() == b"\1hi\n"
    status, body = await admin.get("/api/v1/nodes/n1:1/proxy/pods")
    assert (status, "only the kubelet's port" in body["message"]) == (400, True)
    assert (await admin.get(f"/api/v1/nodes/n1:{kubelet.port}/proxy/pods"))[0] == 200


async def test_streams_have_rights_of_their_own(server, admin, kubelet):
    await start_pod(admin, kubelet.node())
    reader = await server.client("jo")
    rules = [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get"]}]
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    await admin.post(f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    binding = {
        "metadata": {"name": "b"},
        "roleRef": role,
        "subjects": [{"kind": "User", "name": "jo"}],
    }
    await admin.post(f"{rbac}/rolebindings", binding)
    assert await reader.get(f"{PODS}/web/log") == (200, "one\ntwo\n")
    status, body = await reader.post(f"{PODS}/web/exec?command=ls&stdout=true", {})
    assert (status, 'cannot create resource "pods/exec"' in body["message"]) == (403, True)
    status, body = await reader.get("/api/v1/nodes/n1/proxy/exec/x")
    assert (status, 'cannot get resource "nodes/proxy"' in body["message"]) == (403, True)


async def test_a_client_that_hangs_up_ends_the_kubelets_side(admin, kubelet):
    import asyncio

    await start_pod(admin, kubelet.node())
    async with admin.session.get(f"{admin.base}{PODS}/web/log?follow=true") as answer:
        assert await answer.content.readexactly(8) == b"one\ntwo\n"
        assert kubelet.followers == 1
        answer.close()
    while kubelet.followers:
        await asyncio.sleep(0.01)


async def test_a_server_without_a_kubelet_certificate_says_which_settings_are_missing(kubelet):
    from kubecore.errors import ApiStatusError
    from kubecore.settings import KubeletSettings
    from kubecore.streams.kubelet import KubeletClient, endpoint_of

    async with KubeletClient(KubeletSettings()) as client:
        with pytest.raises(ApiStatusError, match=r"set kubelet\.client_cert_file"):
            await client.upgrade(endpoint_of(kubelet.node()), "GET", "/exec/x", [])
