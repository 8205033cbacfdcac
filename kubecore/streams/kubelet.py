"""The kubelet of a node: where it listens, and requests to it over TLS with a client certificate.

Its serving certificate is always verified, and a redirect is never followed: it could lead anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
from yarl import URL

from corekit.errors import SETTINGS, ConfigError
from kubecore.errors import ApiStatusError
from kubecore.settings import KubeletSettings
from kubecore.streams.errors import KubeletAnswerError
from kubecore.streams.pipes import CHUNK_BYTES, Pipe

Object = dict[str, Any]
DEFAULT_PORT = 10250
SPDY = "SPDY/3.1"
# As upstream dials a kubelet. The answer to an upgrade waits for the node to start the stream.
DIAL_S = 30.0
ANSWER_S = 60.0
# Of a refusal: it is shown to a person.
MAX_REFUSAL_BYTES = 4096
_ADDRESS_TYPES = ("InternalIP", "ExternalIP", "Hostname")


@dataclass(frozen=True)
class Endpoint:
    """Where a node's kubelet listens."""

    node: str
    host: str
    port: int

    def __str__(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{shown}:{self.port}"


@dataclass(frozen=True)
class Upgraded:
    """An upgraded connection, and the headers of the answer that made it one."""

    pipe: Pipe
    headers: list[tuple[str, str]]


def endpoint_of(node: Object) -> Endpoint:
    """Return the endpoint in the status of `node`. Raises:  ApiStatusError 500: it has no address."""
    name, status = node["metadata"]["name"], node.get("status") or {}
    addresses = status.get("addresses") or []
    for kind in _ADDRESS_TYPES:
        for entry in addresses:
            if entry.get("type") == kind and entry.get("address"):
                daemon = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
                return Endpoint(name, entry["address"], daemon.get("Port") or DEFAULT_PORT)
    problem = f"no preferred addresses found; known addresses: {addresses}"
    raise ApiStatusError(500, "InternalError", problem)


class KubeletClient:
    """Component: load the client certificate on enter, close the connections on exit."""

    name = "kubelets"

    def __init__(self, settings: KubeletSettings) -> None:
        self._settings = settings
        self._tls: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self._settings.client_cert_file:
            self._tls = _tls_context(self._settings)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()

    @contextlib.asynccontextmanager
    async def request(
        self, endpoint: Endpoint, method: str, path: str, **kwargs: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give the answer to a plain request; its body has not been read.

        Raises:  ApiStatusError 500: not reached.
        """
        url = f"https://{endpoint}{path}"
        try:
            async with self._plain().request(
                method, URL(url, encoded=True), ssl=self._context(), allow_redirects=False, **kwargs
            ) as answer:
                yield answer
        except (aiohttp.ClientError, OSError) as exc:
            raise not_reached(endpoint, exc) from exc
        except TimeoutError as exc:
            raise not_reached(endpoint, "i/o timeout") from exc

    async def upgrade(
        self, endpoint: Endpoint, method: str, path: str, headers: Sequence[tuple[str, str]]
    ) -> Upgraded:
        """Return a connection that the kubelet has switched to the protocol in `headers`.

        Raises:  ApiStatusError 500: not reached. KubeletAnswerError: it answered otherwise.
        """
        try:
            async with asyncio.timeout(DIAL_S):
                reader, writer = await asyncio.open_connection(
                    endpoint.host, endpoint.port, ssl=self._context(), limit=CHUNK_BYTES
                )
        except TimeoutError as exc:
            raise not_reached(endpoint, "i/o timeout") from exc
        except OSError as exc:
            raise not_reached(endpoint, exc) from exc
        try:
            writer.write(head(method, path, [("Host", str(endpoint)), *headers]))
            async with asyncio.timeout(ANSWER_S):
                status, answered = parse_head(await reader.readuntil(b"\r\n\r\n"))
                if status != 101:
                    raise KubeletAnswerError(status, await _refusal(reader, answered))
        except (OSError, EOFError, asyncio.LimitOverrunError, ValueError) as exc:
            writer.close()
            raise not_reached(endpoint, exc) from exc
        except TimeoutError as exc:
            writer.close()
            raise not_reached(endpoint, "i/o timeout") from exc
        except BaseException:
            writer.close()
            raise
        return Upgraded(Pipe(reader, writer), answered)

    async def dial_spdy(self, endpoint: Endpoint, path: str, protocol: str) -> Upgraded:
        """Return a connection on which the kubelet speaks `protocol` over SPDY/3.1.

        Raises:  ApiStatusError 500: not reached. KubeletAnswerError: it answered otherwise.
        """
        headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", SPDY),
            ("X-Stream-Protocol-Version", protocol),
            ("Content-Length", "0"),
        ]
        return await self.upgrade(endpoint, "POST", path, headers)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            problem = (
                "kubecore has no client certificate for kubelets: set kubelet.client_cert_file, "
            )
            problem += "kubelet.key_file and kubelet.ca_file"
            raise ApiStatusError(503, "ServiceUnavailable", problem)
        return self._tls

    def _plain(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, connect=DIAL_S),
                connector=aiohttp.TCPConnector(limit=0),  # who asks is counted before
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding", "User-Agent"),
            )
        return self._session


def not_reached(endpoint: Endpoint, cause: object) -> ApiStatusError:
    """Return the 500 in upstream's words; the node is named for those who do not know it by address."""
    text = str(cause)
    if isinstance(cause, OSError) and cause.errno and not isinstance(cause, ssl.SSLError):
        text = os.strerror(cause.errno).lower()
    problem = f"error dialing backend: dial tcp {endpoint}: {text or type(cause).__name__}"
    problem += f" (node {endpoint.node} is not connected, or its agent is not running)"
    return ApiStatusError(500, "InternalError", problem)


def _tls_context(settings: KubeletSettings) -> ssl.SSLContext:
    key, path = "kubelet.ca_file", settings.ca_file
    try:
        context = ssl.create_default_context(cafile=path or None)
        key, path = "kubelet.client_cert_file, kubelet.key_file", settings.client_cert_file
        context.load_cert_chain(settings.client_cert_file, settings.key_file or None)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(SETTINGS, key, f"{path} cannot be used: {exc.strerror or exc}") from exc
    return context


def head(method: str, path: str, headers: Sequence[tuple[str, str]]) -> bytes:
    """Return the head of a request."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def parse_head(raw: bytes) -> tuple[int, list[tuple[str, str]]]:
    """Return status and headers of an answer's head. Raises:  ValueError: it is none."""
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise ValueError(f"malformed HTTP response {first[:80]!r}")
    pairs = (line.partition(":")[::2] for line in lines)
    return int(rest[:3]), [(name.strip(), value.strip()) for name, value in pairs]


async def _refusal(reader: asyncio.StreamReader, headers: list[tuple[str, str]]) -> bytes:
    """Return the start of a refusal's body; what is cut off was not for people."""
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    limit = int(lengths[0]) if lengths and lengths[0].isdigit() else MAX_REFUSAL_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            body = b""
            while len(body) < min(limit, MAX_REFUSAL_BYTES):
                chunk = await reader.read(MAX_REFUSAL_BYTES - len(body))
                if not chunk:
                    break
                body += chunk
            return body
    return b""
