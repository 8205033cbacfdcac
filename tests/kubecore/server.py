"""A whole kubecore in this process, behind real TLS on a free port of loopback."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import ssl
from pathlib import Path

import aiohttp

from corekit.lifecycle import run_components
from corekit.pki import Authority, KeyPair
from kubecore.app import components
from kubecore.serving.server import ApiServer
from kubecore.settings import KubecoreSettings, KubeletSettings, ServeSettings, StoreSettings


class Certificates:
    """One authority, the server's certificate, and one for each client asked for."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "test authority")
        self.folder = folder
        self.server = self.authority.issue(
            KeyPair(folder / "server.crt", folder / "server.key"), "kubecore", hosts=("127.0.0.1",)
        )

    def client(self, name: str, *groups: str) -> KeyPair:
        stem = name.replace(":", "_")
        pair = KeyPair(self.folder / f"{stem}.crt", self.folder / f"{stem}.key")
        return self.authority.issue(pair, name, organizations=groups)

    def settings(self, folder: Path) -> KubecoreSettings:
        serve = ServeSettings(
            "127.0.0.1:0",
            str(self.server.cert_file),
            str(self.server.key_file),
            str(self.authority.pair.cert_file),
        )
        own = self.client("kube-apiserver-kubelet-client", "system:masters")
        kubelet = KubeletSettings(
            str(own.cert_file), str(own.key_file), str(self.authority.pair.cert_file)
        )
        store = StoreSettings(str(folder / "kubecore.db"))
        return KubecoreSettings(serve=serve, store=store, kubelet=kubelet)


class Client:
    """HTTP as one user; answers are (status, decoded body)."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session, self.base = session, base

    async def __call__(self, method, path, body=None, *, media="application/json", **headers):
        raw = json.dumps(body).encode() if isinstance(body, dict | list) else body
        if isinstance(raw, bytes):
            raw = io.BytesIO(raw)
        sent = {"Content-Type": media} | {k.replace("_", "-"): v for k, v in headers.items()}
        async with self.session.request(method, self.base + path, data=raw, headers=sent) as answer:
            text = await answer.text()
            self.headers = answer.headers
            return answer.status, json.loads(text) if text.startswith("{") else text

    async def get(self, path, **headers):
        return await self("GET", path, **headers)

    async def post(self, path, body, **headers):
        return await self("POST", path, body, **headers)

    async def put(self, path, body, **headers):
        return await self("PUT", path, body, **headers)

    async def merge(self, path, body, **headers):
        return await self("PATCH", path, body, media="application/merge-patch+json", **headers)

    async def delete(self, path, body=None, **headers):
        return await self("DELETE", path, body, **headers)

    @contextlib.asynccontextmanager
    async def watch(self, path):
        """Give an iterator of decoded events."""
        async with self.session.get(self.base + path) as answer:
            assert answer.status == 200
            yield _events(answer)


async def _events(answer):
    async for line in answer.content:
        yield json.loads(line)


class Server:
    """A running kubecore."""

    def __init__(self, certificates: Certificates, base: str) -> None:
        self.certificates, self.base = certificates, base
        self._stack = contextlib.AsyncExitStack()

    async def client(self, name: str | None = "admin", *groups: str) -> Client:
        context = ssl.create_default_context(cafile=self.certificates.authority.pair.cert_file)
        if name is not None:
            groups = groups or (("system:masters",) if name == "admin" else ())
            pair = self.certificates.client(name, *groups)
            context.load_cert_chain(pair.cert_file, pair.key_file)
        connector = aiohttp.TCPConnector(ssl=context)
        session = await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        return Client(session, self.base)

    async def close(self) -> None:
        await self._stack.aclose()

    def kubeconfig(self, path: Path, name: str = "admin", *groups: str) -> Path:
        pair = self.certificates.client(name, *(groups or ("system:masters",)))
        cluster = {
            "server": self.base,
            "certificate-authority": str(self.certificates.authority.pair.cert_file),
        }
        user = {"client-certificate": str(pair.cert_file), "client-key": str(pair.key_file)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(config))
        return path


@contextlib.asynccontextmanager
async def running(certificates: Certificates, folder: Path):
    """Run kubecore on the state in `folder`."""
    parts = components(certificates.settings(folder))
    server = next(part for part in parts if isinstance(part, ApiServer))
    stop = asyncio.Event()
    task = asyncio.create_task(run_components(parts, stop))
    try:
        while not server.port and not task.done():
            await asyncio.sleep(0.01)
        if task.done():
            await task
        running_server = Server(certificates, f"https://127.0.0.1:{server.port}")
        try:
            yield running_server
        finally:
            await running_server.close()
    finally:
        stop.set()
        await task
