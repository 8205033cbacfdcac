"""One cloud with its node proxy, and one node behind a real gRPC stream; the cluster's answers are a test's to give."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from contextlib import asynccontextmanager

import aiohttp

from cloudcore.cloudhub.server import CloudHub
from cloudcore.kube.reviews import ACCESS_REVIEWS, TOKEN_REVIEWS
from cloudcore.nodeproxy.server import NodeProxy
from cloudcore.settings import HubSettings, NodeProxySettings
from corekit.errors import KubeApiError
from corekit.lifecycle import run_components
from corekit.pki import Authority, KeyPair
from edgecore.edged.kubelet.documents import Documents
from edgecore.edged.kubelet.server import KubeletServer
from edgecore.edged.pods.manager import Edged
from edgecore.edgehub.client import EdgeHub
from edgecore.metamanager.store import MetaStore
from edgecore.settings import EdgeSettings, NodeSettings, PodSettings
from edgecore.settings import HubSettings as EdgeHubSettings
from synccore.index import record_version
from synccore.messages import Delta, ObjectKey, Op
from tests.fakes.cloud import FakeCounters, FakeSink, FakeSource, FakeView
from tests.fakes.pods import pod_object
from tests.fakes.spdy import Run, SpdyClient

APISERVER = ("kube-apiserver-kubelet-client", "system:masters")


class FakeReviews:
    """The cluster, as far as it says who somebody is and what they may."""

    def __init__(self):
        self.tokens = {"good": {"username": "jane", "uid": "7", "groups": ["dev"]}}
        # (user, verb, subresource) that are allowed; groups of masters may everything.
        self.allowed = set()
        self.asked = []
        self.down = False

    async def post(self, path, body):
        if self.down:
            raise KubeApiError(0, "Down", "as scripted")
        spec = json.loads(body)["spec"]
        self.asked.append((path, spec))
        if path == TOKEN_REVIEWS:
            user = self.tokens.get(spec["token"])
            status = {"authenticated": True, "user": user} if user else {"error": "unknown token"}
            return json.dumps({"status": status}).encode()
        assert path == ACCESS_REVIEWS
        what = spec["resourceAttributes"]
        wanted = (spec["user"], what["verb"], what["subresource"])
        allowed = "system:masters" in spec["groups"] or wanted in self.allowed
        return json.dumps({"status": {"allowed": allowed}}).encode()


class _View(FakeView):
    def read(self, key):
        body = self._source.records[self._node].get(key)
        if body is None:
            return None
        uid = uid_of(body)
        return Delta(Op.UPSERT, key, uid, record_version(uid, body), body=body)


class PodSource(FakeSource):
    """Records whose uid is their body's."""

    def open(self, node, on_change, on_given_up):
        self.watchers.append((node, on_change))
        return _View(self, node, on_change)

    def put(self, node, key, body):
        self.records[node][key] = body
        self.indexes[node].put(key, record_version(uid_of(body), body))
        self._tell(node, key)


def uid_of(body):
    return json.loads(body)["metadata"].get("uid", "")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Rig:
    """Settings and certificates in a folder; `running()` is the whole path, `dial()` an API server."""

    def __init__(self, folder, runtime=None, node="edge-1", handler=None, **hub):
        self.folder, self.runtime, self.node = folder, runtime, node
        self.authority = Authority(folder / "pki", "test")
        self.reviews, self.source, self.sink = FakeReviews(), PodSource(node), FakeSink()
        self.hub_port = free_port()
        self.handler = handler
        cloud = self.issue("cloudcore", "cloudcore", hosts=("127.0.0.1",))
        proxy = self.issue("nodeproxy", "nodeproxy", hosts=("127.0.0.1",))
        first = free_port()
        self.cloud_settings = HubSettings(
            address=f"127.0.0.1:{self.hub_port}",
            cert_file=str(cloud.cert_file),
            key_file=str(cloud.key_file),
            client_ca_file=self.ca_file,
            **{"heartbeat_s": 5.0, **hub},
        )
        self.proxy_settings = NodeProxySettings(
            advertise_address="127.0.0.1",
            address="127.0.0.1",
            port_range=f"{first}-{min(first + 50, 65535)}",
            cert_file=str(proxy.cert_file),
            key_file=str(proxy.key_file),
            client_ca_file=self.ca_file,
        )
        self.settings = EdgeSettings(
            node=NodeSettings(name=node),
            pods=PodSettings(root_dir=str(folder / "pods"), log_dir=str(folder / "logs")),
        )

    @property
    def ca_file(self):
        return str(self.authority.pair.cert_file)

    def issue(self, name, common_name, organizations=(), hosts=(), authority=None):
        pair = KeyPair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return (authority or self.authority).issue(
            pair, common_name, organizations=organizations, hosts=hosts
        )

    def tls(self, common_name="", organization="", authority=None):
        """A client's TLS; with a name it shows a certificate."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if common_name:
            groups = (organization,) if organization else ()
            pair = self.issue(f"client-{common_name}", common_name, groups, authority=authority)
            context.load_cert_chain(pair.cert_file, pair.key_file)
        return context

    def _edge(self, server_port):
        pair = self.issue(f"node-{self.node}", f"system:node:{self.node}", ("system:nodes",))
        hub = EdgeHubSettings(
            server=f"127.0.0.1:{server_port}",
            ca_file=self.ca_file,
            cert_file=str(pair.cert_file),
            key_file=str(pair.key_file),
            backoff_min_s=0.05,
            backoff_max_s=0.2,
        )
        self.store = MetaStore(self.folder / "edge.db")
        self.edge_hub = EdgeHub(hub, self.node, self.store)
        if self.handler is not None:
            self.edge_hub.serve_streams(self.handler)
            return [self.store, self.edge_hub]
        edged = Edged(
            self.settings.pods,
            node_name=self.node,
            store=self.store,
            runtime=self.runtime,
            clock=time.time,
            address=lambda: "192.0.2.7",
            uplink=self.edge_hub,
        )
        documents = Documents(
            self.settings, self.store, self.runtime, edged, None, lambda: "up 1\n"
        )
        log_root = self.folder / "logs"
        kubelet = KubeletServer(self.store, self.runtime, edged, documents, log_root)
        self.edge_hub.serve_streams(kubelet.serve)
        return [self.store, edged, self.edge_hub]

    @asynccontextmanager
    async def running(self, server_port=None):
        """Cloud and node, until the block ends; `server_port`: where the node dials, if not the cloud itself."""
        self.proxy = NodeProxy(self.proxy_settings, self.reviews)
        self.counters = FakeCounters()
        self.hub = CloudHub(
            self.cloud_settings,
            source=self.source,
            sink=self.sink,
            counters=self.counters,
            watcher=self.proxy,
        )
        self.proxy.reach(self.hub)
        stop = asyncio.Event()
        parts = [self.proxy, self.hub, *self._edge(server_port or self.hub_port)]
        task = asyncio.create_task(run_components(parts, stop))
        try:
            await self.until(lambda: self.proxy.endpoint_of(self.node) or task.done())
            yield self
            assert not task.done(), task.exception()
        finally:
            stop.set()
            await asyncio.wait_for(task, 20)

    async def until(self, check):
        while not check():
            await asyncio.sleep(0.01)

    def put_pod(self, name, *containers, uid=None, **spec):
        pod = pod_object(name, uid or f"uid-{name}", list(containers), **spec)
        key = ObjectKey("Pod", "default", name)
        self.source.put(self.node, key, json.dumps(pod).encode())

    def drop_pod(self, name):
        self.source.drop(self.node, ObjectKey("Pod", "default", name))

    def status(self, name):
        delta = self.sink.newest.get((self.node, ObjectKey("Pod", "default", name)))
        return json.loads(delta.body).get("status", {}) if delta is not None else {}

    async def phase(self, name, *phases):
        await self.until(lambda: self.status(name).get("phase") in phases)

    # As an API server.

    @property
    def port(self):
        return self.proxy.endpoint_of(self.node).port

    def client(self, **headers):
        """An aiohttp session with the API server's certificate."""
        return self.session(self.tls(*APISERVER), headers)

    def session(self, tls, headers=None):
        return aiohttp.ClientSession(
            f"https://127.0.0.1:{self.port}",
            connector=aiohttp.TCPConnector(ssl=tls, force_close=False),
            headers=headers,
        )

    async def get(self, path, tls=None, **headers):
        """Status and text of one GET."""
        async with self.session(tls or self.tls(*APISERVER), headers) as session:
            async with session.get(path, allow_redirects=False) as reply:
                return reply.status, await reply.text()

    async def dial(self, path, **options):
        """A SPDY connection, by POST as an API server does it."""
        options.setdefault("protocols", ("v4.channel.k8s.io", "channel.k8s.io"))
        tls = options.pop("tls", None) or self.tls(*APISERVER)
        return await SpdyClient.dial("127.0.0.1", self.port, path, tls=tls, **options)

    async def run(self, pod, container, *command, content=b"", tty=False):
        """Run a command; return (status, stdout, stderr)."""
        query = "&".join(f"command={quoted(c)}" for c in command)
        pipes = "&output=1&error=1" + ("&input=1" if content else "") + ("&tty=1" if tty else "")
        client = await self.dial(f"/exec/default/{pod}/{container}?{query}{pipes}")
        try:
            run = Run(client, stdin=bool(content), tty=tty)
            if content:
                await client.send(run.stdin, content, end=True)
            status = await run.finished()
            return (
                status,
                bytes(run.stdout.content),
                bytes(run.stderr.content if run.stderr else b""),
            )
        finally:
            await client.close()


def quoted(text):
    from urllib.parse import quote

    return quote(text, safe="")
