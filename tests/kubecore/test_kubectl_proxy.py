"""`proxy` below pods, services and nodes with the real kubectl, the official client, and by hand."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.kubelet import FakeKubelet
from tests.kubecore.samples import make_pod
from tests.kubecore.test_kubectl import VERSIONS, Kubectl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]
DEFAULT = "/api/v1/namespaces/default"


async def answer(request):
    """An application that tells what it was asked."""
    if request.path == "/ws":
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket
    if request.path == "/away":
        raise web.HTTPFound("/login?x=1")
    if request.path == "/page.html":
        page = web.Response(text="<a href='/there'>ä</a>" * 500, content_type="text/html")
        if "gzip" in request.headers["Accept-Encoding"]:
            page.enable_compression(web.ContentCoding.gzip)
        return page
    if request.path == "/large.html":
        return web.Response(text="<a href='/there'></a>" * 300_000, content_type="text/html")
    if request.path == "/upload":
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
        return web.Response(text=str(size), headers={"Access-Control-Allow-Origin": "*"})
    seen = {
        "method": request.method,
        "path": request.raw_path,
        "uri": request.headers.get("X-Forwarded-Uri"),
        "authorized": "Authorization" in request.headers,
        "body": await request.text(),
    }
    return web.json_response(seen, status=int(request.query.get("status", "200")))


@contextlib.asynccontextmanager
async def application(context=None):
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture
async def port():
    async with application() as number:
        yield number


@pytest.fixture
async def kubelet(certificates):
    async with FakeKubelet(certificates.server, certificates.authority.pair.cert_file) as fake:
        yield fake


@pytest.fixture
async def pod(admin, kubelet, port):
    await admin.post("/api/v1/nodes", kubelet.node())
    container = {"name": "c", "image": "busybox", "ports": [{"containerPort": port}]}
    await admin.post(f"{DEFAULT}/pods", make_pod(containers=[container]))
    await admin.post(f"{DEFAULT}/pods/web/binding", {"target": {"name": "n1"}})
    status = {"phase": "Running", "podIP": "10.1.2.3"}
    assert (await admin.merge(f"{DEFAULT}/pods/web/status", {"status": status}))[0] == 200
    return f"{DEFAULT}/pods/web:{port}/proxy"


@pytest.fixture
async def service(admin, pod, port):
    spec = {"ports": [{"name": "http", "port": 80, "targetPort": port}]}
    await admin.post(f"{DEFAULT}/services", {"metadata": {"name": "shop"}, "spec": spec})
    address = {"ip": "10.1.2.3", "targetRef": {"kind": "Pod", "name": "web"}}
    subset = {"addresses": [address], "ports": [{"name": "http", "port": port}]}
    await admin.post(f"{DEFAULT}/endpoints", {"metadata": {"name": "shop"}, "subsets": [subset]})
    return f"{DEFAULT}/services/shop:http/proxy"


@pytest.fixture(params=VERSIONS, ids=[str(v)[-4:] for v in VERSIONS])
async def kubectl(request, server, tmp_path, pod):
    if request.param is None:
        pytest.skip("no kubectl on this machine")
    return Kubectl(request.param, server.kubeconfig(tmp_path / "kubeconfig"), tmp_path)


async def test_a_raw_path_reaches_pod_service_and_node(kubectl, pod, service):
    shown = await kubectl("get", "--raw", f"{pod}/some//path?a=b")
    assert '"path": "/some//path?a=b"' in shown
    assert f'"uri": "{pod}/some//path"' in shown
    assert '"path": "/x"' in await kubectl("get", "--raw", f"{service}/x")
    assert '"path": "/"' in await kubectl("get", "--raw", f"{DEFAULT}/pods/web/proxy")
    assert await kubectl("get", "--raw", "/api/v1/nodes/n1/proxy/pods") == "GET /pods "
    shown = await kubectl("create", "--raw", f"{pod}/in", "-f", "-", stdin='{"a":1}')
    assert '"method": "POST"' in shown
    assert '"body": "{\\"a\\":1}"' in shown


async def test_a_browser_behind_kubectl_proxy_uses_the_application(kubectl, pod):
    process = await asyncio.create_subprocess_exec(
        kubectl.binary, "proxy", "--port=0", env=kubectl.env, stdout=asyncio.subprocess.PIPE
    )
    try:
        line = (await process.stdout.readline()).decode()
        base = f"http://{line.split()[-1]}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{base}{pod}/page?status=418") as reply:
                assert (reply.status, (await reply.json())["path"]) == (418, "/page?status=418")
            async with session.get(f"{base}{pod}/away", allow_redirects=False) as reply:
                assert reply.headers["Location"] == f"{pod}/login?x=1"
            async with session.ws_connect(f"{base}{pod}/ws") as socket:
                await socket.send_str("ahoy")
                assert await socket.receive_str() == "AHOY"
    finally:
        process.kill()
        await process.wait()


async def test_the_official_client_reaches_pods_and_services(server, pod, service, tmp_path):
    from kubernetes import client, config

    def run():
        api = config.new_client_from_config(str(server.kubeconfig(tmp_path / "kubeconfig")))
        with contextlib.closing(api):
            core = client.CoreV1Api(api)
            name = pod.split("/")[-2]
            got = core.connect_get_namespaced_pod_proxy_with_path(name, "default", "a")
            put = core.connect_put_namespaced_service_proxy_with_path("shop:80", "default", "c")
            return got, put

    got, put = await asyncio.to_thread(run)
    assert "'/a'" in got
    assert "PUT" in put


async def test_bodies_of_any_size_and_every_verb_go_through(admin, pod):
    size = 20 << 20
    status, text = await admin.post(f"{pod}/upload", b"x" * size, media="text/plain")
    assert (status, text) == (200, str(size))
    assert "Access-Control-Allow-Origin" not in admin.headers
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
        status, seen = await admin(method, f"{pod}/x", b"y", Authorization="Bearer secret")
        assert (status, seen["method"], seen["authorized"]) == (200, method, False)
    status, _ = await admin("HEAD", f"{pod}/x")
    assert status == 200


async def test_links_in_pages_lead_back_through_the_proxy(admin, pod):
    for encoding in ("identity", "gzip, br"):
        status, page = await admin.get(f"{pod}/page.html", Accept_Encoding=encoding)
        assert (status, page) == (200, f"<a href='{pod}/there'>ä</a>" * 500)
    status, page = await admin.get(f"{pod}/large.html")
    assert (status, page) == (200, "<a href='/there'></a>" * 300_000)


async def test_a_websocket_and_its_refusal_are_passed_on(admin, service):
    async with admin.session.ws_connect(f"{admin.base}{service}/ws") as socket:
        for word in ("one", "two" * 50_000):
            await socket.send_str(word)
            assert await socket.receive_str() == word.upper()
    status, seen = await admin.get(
        f"{service}/no?status=409", Connection="Upgrade", Upgrade="websocket"
    )
    assert (status, seen["path"]) == (409, "/no?status=409")


async def test_an_application_with_tls_is_reached_by_its_scheme(admin, pod, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server.cert_file, certificates.server.key_file)
    async with application(context) as number:
        path = f"{DEFAULT}/pods/https:web:{number}/proxy"
        status, seen = await admin.get(f"{path}/x")
        assert (status, seen["path"]) == (200, "/x")
        async with admin.session.ws_connect(f"{admin.base}{path}/ws") as socket:
            await socket.send_str("tls")
            assert await socket.receive_str() == "TLS"


async def test_what_cannot_be_reached_is_said_in_upstreams_words(admin, pod, service):
    status, body = await admin.get(f"{DEFAULT}/pods/web:1/proxy/x")
    assert (status, body["reason"]) == (503, "ServiceUnavailable")
    assert "error trying to reach service: pod web, port 1: " in body["message"]
    assert "connection refused" in body["message"]
    status, body = await admin.get(f"{DEFAULT}/services/shop:nope/proxy/x")
    assert (status, body["message"]) == (
        503,
        'no endpoints available for service "shop:nope"',
    )
    for path, wanted in (
        ("pods/none/proxy/x", 404),
        ("services/none/proxy/x", 404),
        ("pods/web:http/proxy/x", 400),
        ("pods/ftp:web:1/proxy/x", 400),
        ("configmaps/web/proxy/x", 404),
    ):
        assert (await admin.get(f"{DEFAULT}/{path}"))[0] == wanted


async def test_only_who_may_proxy_does(server, admin, pod):
    reader = await server.client("jo")
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    name = pod.split("/")[-2]
    rules = [
        {"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get"], "resourceNames": [name]}
    ]
    await admin.post(f"{rbac}/roles", {"metadata": {"name": "r"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    subjects = [{"kind": "User", "name": "jo"}]
    await admin.post(
        f"{rbac}/rolebindings", {"metadata": {"name": "b"}, "roleRef": role, "subjects": subjects}
    )
    assert (await reader.get(f"{pod}/x"))[0] == 200
    assert (await reader.post(f"{pod}/x", b""))[0] == 403
    assert (await reader.get(f"{DEFAULT}/pods/web/proxy/x"))[0] == 403


async def test_the_proxys_own_address_is_completed_by_a_slash(admin, pod):
    async with admin.session.get(f"{admin.base}{pod}?a=b", allow_redirects=False) as reply:
        assert (reply.status, reply.headers["Location"]) == (301, f"{pod}/?a=b")
    namespace = {"metadata": {"name": "proxy"}}
    await admin.post("/api/v1/namespaces", namespace)
    status, body = await admin.get("/api/v1/namespaces/proxy/pods/web/proxy/x")
    assert (status, body["message"]) == (404, 'pods "web" not found')
