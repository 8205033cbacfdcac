"""A container registry (distribution API v2) on loopback: what containerd pulls from, with or without a password."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from armadillo.images import LocalImage, write_archive

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class FakeRegistry:
    """`put` makes an image; `passwords` says who may read a repository; `asked` counts manifests asked for."""

    def __init__(self, folder):
        self._folder = folder
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.passwords: dict[str, tuple[str, str]] = {}
        self.asked: list[str] = []
        self.broken = False
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                registry.answer(self, body=True)

            def do_HEAD(self):
                registry.answer(self, body=False)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def running(self):
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def put(self, repository, tag="1", command=("sh",), **config):
        """Make a busybox image, its config changed by `config` (Entrypoint, Cmd, User …); return its reference."""
        name = f"{self.host}/{repository}:{tag}"
        archive = self._folder / "image.tar"
        write_archive(archive, [LocalImage(name, command, ("sh", "sleep", "cat"))])
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                if member.name.startswith("blobs/"):
                    self._keep(tar.extractfile(member).read())
            index = json.load(tar.extractfile("index.json"))
        digest = self._configured(index["manifests"][0]["digest"], config)
        for reference in (tag, digest):
            self.manifests[repository, reference] = self.blobs[digest]
        return name

    def _keep(self, content):
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return digest

    def _configured(self, digest, changes):
        manifest = json.loads(self.blobs[digest])
        image = json.loads(self.blobs[manifest["config"]["digest"]])
        image["config"] |= changes
        body = json.dumps(image).encode()
        manifest["config"] |= {"digest": self._keep(body), "size": len(body)}
        return self._keep(json.dumps(manifest).encode())

    def answer(self, request, *, body):
        if self.broken:
            return self._send(request, 503, b"", body=body)
        if request.path in ("/v2", "/v2/"):
            return self._send(request, 200, b"{}", body=body)
        path, _, reference = request.path.removeprefix("/v2/").rpartition("/")
        repository, _, kind = path.rpartition("/")
        if not self._allowed(request, repository):
            header = {"WWW-Authenticate": 'Basic realm="fake"'}
            return self._send(request, 401, b"{}", body=body, headers=header)
        if kind == "manifests":
            self.asked.append(f"{repository}:{reference}")
            content = self.manifests.get((repository, reference))
        else:
            content = self.blobs.get(reference)
        if content is None:
            return self._send(request, 404, b"{}", body=body)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        headers = {"Docker-Content-Digest": digest}
        kind = MANIFEST if kind == "manifests" else "application/octet-stream"
        return self._send(
            request, 200, content, body=body, headers={**headers, "Content-Type": kind}
        )

    def _allowed(self, request, repository):
        wanted = self.passwords.get(repository)
        given = request.headers.get("Authorization", "")
        return (
            wanted is None
            or given == "Basic " + base64.b64encode(":".join(wanted).encode()).decode()
        )

    def _send(self, request, status, content, *, body, headers=None):
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if body:
            request.wfile.write(content)


def pull_secret(name, host, user, password, *, old_form=False):
    """A Secret as `kubectl create secret docker-registry` makes it."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    entries = {host: {"username": user, "password": password, "auth": auth}}
    key = ".dockercfg" if old_form else ".dockerconfigjson"
    content = entries if old_form else {"auths": entries}
    encoded = base64.b64encode(json.dumps(content).encode()).decode()
    return {
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "type": f"kubernetes.io/{key[1:]}",
        "data": {key: encoded},
    }
