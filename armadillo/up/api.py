"""The little of the Kubernetes API that `armadillo up` needs: read an object, make sure one is there.

Two ways: HTTPS with our own certificate (kubecore), and `kubectl` for a user's cluster, whose kubeconfig may
hold any kind of credential.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from corekit.errors import EdgeError
from corekit.pki import KeyPair

Object = dict[str, Any]
TIMEOUT_S = 5.0
# kubectl starts, asks discovery and runs credential plugins first.
KUBECTL_TIMEOUT_S = 30.0
CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "Node",
}


class ApiNotReadyError(EdgeError):
    """The API did not answer, or not with what was asked for; try again."""

    retryable = True


class Api(Protocol):
    """What the readiness checks need of a cluster."""

    async def get(self, path: str) -> Object | None:
        """Return the object at `path`, None if it is not there. Raises: ApiNotReadyError."""

    async def ensure(self, obj: Object, *, overwrite: bool) -> None:
        """Create `obj` if it is not there; `overwrite` brings an old one up to date. Raises: ApiNotReadyError."""


def path_of(obj: Object) -> tuple[str, str]:
    """Return the collection path and the name of `obj`. Only kinds with a regular plural are sent from here."""
    group = obj["apiVersion"]
    root = f"/apis/{group}" if "/" in group else f"/api/{group}"
    if obj["kind"] not in CLUSTER_SCOPED:
        root += f"/namespaces/{obj['metadata'].get('namespace', 'default')}"
    return f"{root}/{obj['kind'].lower()}s", obj["metadata"]["name"]


@dataclass(frozen=True)
class Answer:
    """Status and body of one response."""

    status: int
    body: bytes

    def problem(self) -> str:
        """Return the Status message, or the start of whatever came instead."""
        try:
            return f"{self.status} {json.loads(self.body)['message']}"
        except (ValueError, KeyError, TypeError):
            return f"{self.status} {self.body[:200].decode(errors='replace')}"


class HttpsApi:
    """The API at 127.0.0.1:`port`, as the administrator."""

    def __init__(self, port: int, *, ca_file: Path, client: KeyPair) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._context.load_cert_chain(client.cert_file, client.key_file)

    async def get(self, path: str) -> Object | None:
        """Return the object at `path`."""
        answer = await self._request("GET", path)
        if answer.status == 404:
            return None
        return _object(answer)

    async def answers(self, path: str) -> str:
        """Return an empty string if `path` answers 200, else what is wrong."""
        try:
            answer = await self._request("GET", path)
        except ApiNotReadyError as exc:
            return str(exc)
        return "" if answer.status == 200 else answer.problem()

    async def text(self, path: str) -> str:
        """Return what `path` answers, for pages that are not JSON. Raises: ApiNotReadyError."""
        answer = await self._request("GET", path, accept="*/*")
        if answer.status != 200:
            raise ApiNotReadyError(answer.problem())
        return answer.body.decode()

    async def ensure(self, obj: Object, *, overwrite: bool) -> None:
        """Create `obj`, or merge it into the one that is there."""
        collection, name = path_of(obj)
        answer = await self._request("POST", collection, obj)
        if answer.status == 409 and overwrite:
            answer = await self._request("PATCH", f"{collection}/{name}", obj)
        if answer.status >= 300 and answer.status != 409:
            raise ApiNotReadyError(f"{obj['kind']} {name}: {answer.problem()}")

    async def _request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        accept: str = "application/json",
    ) -> Answer:
        return await asyncio.to_thread(self._blocking, method, path, body, accept)

    def _blocking(self, method: str, path: str, body: Object | None, accept: str) -> Answer:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self._port, timeout=TIMEOUT_S, context=self._context
        )
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        content = json.dumps(body).encode() if body is not None else None
        headers = {"Accept": accept} | ({"Content-Type": kind} if content else {})
        try:
            connection.request(method, path, body=content, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except (OSError, http.client.HTTPException) as exc:
            raise ApiNotReadyError(f"port {self._port}: {exc or type(exc).__name__}") from exc
        finally:
            connection.close()


class KubectlApi:
    """A user's cluster, through kubectl and the user's kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._command = ("kubectl", "--kubeconfig", str(kubeconfig), "--request-timeout=10s")

    async def get(self, path: str) -> Object | None:
        """Return the object at `path`."""
        status, out, err = await self._run("get", "--raw", path)
        if status != 0 and ("NotFound" in err or "could not find" in err):
            return None
        if status != 0:
            raise ApiNotReadyError(err)
        return _object(Answer(200, out))

    async def ensure(self, obj: Object, *, overwrite: bool) -> None:
        """Create `obj`, or apply it over the one that is there."""
        verb = "apply" if overwrite else "create"
        status, _, err = await self._run(verb, "-f", "-", content=json.dumps(obj).encode())
        if status != 0 and "AlreadyExists" not in err:
            raise ApiNotReadyError(f"{obj['kind']} {obj['metadata']['name']}: {err}")

    async def _run(self, *args: str, content: bytes = b"") -> tuple[int, bytes, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *args,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError as exc:
            raise ApiNotReadyError("kubectl is not installed; --kubeconfig needs it") from exc
        try:
            out, err = await asyncio.wait_for(process.communicate(content), KUBECTL_TIMEOUT_S)
        except TimeoutError as exc:
            process.kill()
            await process.wait()
            raise ApiNotReadyError(f"kubectl gave no answer in {KUBECTL_TIMEOUT_S:.0f} s") from exc
        return process.returncode or 0, out, " ".join(err.decode(errors="replace").split())


def _object(answer: Answer) -> Object:
    if answer.status != 200:
        raise ApiNotReadyError(answer.problem())
    try:
        parsed = json.loads(answer.body)
    except ValueError as exc:
        raise ApiNotReadyError(f"answered with what is not JSON: {exc}") from exc
    if not isinstance(parsed, dict):
        raise ApiNotReadyError("answered with what is not an object")
    return parsed
