"""Where the Kubernetes API is and how to prove who we are: a kubeconfig, or a pod's service account.

Certificates and tokens are read here; only `exec` and `auth-provider` users load `kubernetes.aio`, because
importing it costs 21 MiB on top of aiohttp, more than all the rest of cloudcore's Kubernetes code.
"""

from __future__ import annotations

import base64
import importlib
import os
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corekit.errors import ConfigError
from corekit.yamltext import YamlError, parse_yaml

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# The kubelet renews a service account token at 80 % of its hour; client-go re-reads each minute too.
TOKEN_REREAD_S = 60.0

# Returns the value of the Authorization header, or None.
Authorize = Callable[[], Awaitable[str | None]]


@dataclass(frozen=True)
class KubeEndpoint:
    """What a client needs to connect. Server verification cannot be turned off."""

    server: str  # https://host:port, no trailing slash
    tls: ssl.SSLContext
    authorize: Authorize
    tls_server_name: str | None = None


def load_endpoint(kubeconfig: str) -> KubeEndpoint:
    """Return the endpoint in the file `kubeconfig`; if empty, the pod's service account or $KUBECONFIG.

    Raises:  ConfigError: naming the file and the key.
    """
    if not kubeconfig and (SERVICE_ACCOUNT / "token").exists():
        return _in_cluster()
    path = kubeconfig or os.environ.get("KUBECONFIG", "")
    if not path:
        raise ConfigError(
            "settings",
            "kube.kubeconfig",
            "is empty, and there is no service account or $KUBECONFIG",
        )
    return _Kubeconfig(Path(path)).endpoint()


def _in_cluster() -> KubeEndpoint:
    source = str(SERVICE_ACCOUNT)
    host, port = (
        os.environ.get("KUBERNETES_SERVICE_HOST"),
        os.environ.get("KUBERNETES_SERVICE_PORT"),
    )
    if not host or not port:
        raise ConfigError(source, "", "KUBERNETES_SERVICE_HOST and _PORT are not set")
    name = f"[{host}]" if ":" in host else host
    tls = _tls_context(source, _read(source, SERVICE_ACCOUNT / "ca.crt"))
    return KubeEndpoint(
        f"https://{name}:{port}", tls, _token_file(source, SERVICE_ACCOUNT / "token")
    )


class _Kubeconfig:
    """The current context of one kubeconfig file."""

    def __init__(self, path: Path) -> None:
        self._source, self._folder = str(path), path.parent
        try:
            tree = parse_yaml(_read(self._source, path))
        except YamlError as exc:
            raise ConfigError(self._source, "", str(exc)) from exc
        self._tree: dict[str, Any] = tree if isinstance(tree, dict) else {}
        context = self._named("context", self._tree.get("current-context"))
        self._cluster = self._named("cluster", context.get("cluster"))
        self._user = self._named("user", context.get("user"))

    def endpoint(self) -> KubeEndpoint:
        """Return the connection it describes."""
        server = str(self._cluster.get("server", "")).rstrip("/")
        if not server.startswith("https://"):
            raise ConfigError(
                self._source, "clusters.cluster.server", f"{server!r} is not an https URL"
            )
        for key in ("insecure-skip-tls-verify", "proxy-url"):
            if self._cluster.get(key):
                raise ConfigError(self._source, f"clusters.cluster.{key}", "is not supported")
        tls = _tls_context(self._source, self._bytes(self._cluster, "certificate-authority"))
        cert = self._bytes(self._user, "client-certificate")
        private = self._bytes(self._user, "client-key")
        if cert and private:
            _load_cert_chain(self._source, tls, cert, private)
        name = self._cluster.get("tls-server-name")
        if not isinstance(name, str | None):
            raise ConfigError(self._source, "clusters.cluster.tls-server-name", "is not a text")
        return KubeEndpoint(server, tls, self._authorize(), name)

    def _authorize(self) -> Authorize:
        user = self._user
        if "exec" in user or "auth-provider" in user:
            return _PluginToken(self._source)
        if user.get("tokenFile"):
            return _token_file(self._source, self._folder / str(user["tokenFile"]))
        if user.get("username"):
            raise ConfigError(self._source, "users.user.username", "is not supported: use a token")
        return _constant(f"Bearer {user['token']}" if user.get("token") else None)

    def _named(self, what: str, name: object) -> dict[str, Any]:
        entries = self._tree.get(f"{what}s")
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and entry.get("name") == name:
                found = entry.get(what)
                return found if isinstance(found, dict) else {}
        raise ConfigError(self._source, f"{what}s", f"has no {what} named {name!r}")

    def _bytes(self, entry: dict[str, Any], key: str) -> bytes | None:
        """Return what `key`-data holds in base64, or the file that `key` names, or None."""
        encoded = entry.get(f"{key}-data")
        if encoded:
            try:
                return base64.b64decode(str(encoded), validate=True)
            except ValueError as exc:  # binascii.Error, or text that is not ASCII
                raise ConfigError(self._source, f"{key}-data", "is not base64") from exc
        path = entry.get(key)
        return _read(self._source, self._folder / str(path), key) if path else None


class _PluginToken:
    """The token of an `exec` or `auth-provider` user, through the official client."""

    def __init__(self, path: str) -> None:
        self._path, self._loader, self._settings = path, None, None
        self._read_at = -TOKEN_REREAD_S

    async def __call__(self) -> str | None:
        if self._loader is None:
            aio = importlib.import_module("kubernetes.aio")  # 21 MiB; see the module's docstring
            self._settings = aio.client.Configuration()
            self._loader = await aio.config.load_kube_config(
                self._path, client_configuration=self._settings
            )
            self._read_at = time.monotonic()
        elif time.monotonic() - self._read_at >= TOKEN_REREAD_S:
            await self._loader.load_and_set(self._settings)  # runs the plugin only if it expired
            self._read_at = time.monotonic()
        return self._settings.api_key.get("BearerToken") if self._settings else None


def _constant(value: str | None) -> Authorize:
    async def authorize() -> str | None:
        return value

    return authorize


def _token_file(source: str, path: Path) -> Authorize:
    try:
        token, read_at = _read(source, path).decode().strip(), time.monotonic()
    except UnicodeDecodeError as exc:
        raise ConfigError(source, "tokenFile", f"{path} is not text") from exc

    async def authorize() -> str | None:
        nonlocal token, read_at
        if time.monotonic() - read_at >= TOKEN_REREAD_S:
            read_at = time.monotonic()
            try:
                # A local file of one page, once a minute: not worth a thread.
                token = path.read_text().strip() or token  # noqa: ASYNC240
            except OSError:  # being replaced just now; the old one is still good
                return f"Bearer {token}"
        return f"Bearer {token}"

    return authorize


def _tls_context(source: str, ca: bytes | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=ca.decode() if ca else None)
    except (ssl.SSLError, ValueError) as exc:
        raise ConfigError(source, "certificate-authority", "is not a PEM certificate") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load_cert_chain(source: str, context: ssl.SSLContext, cert: bytes, key: bytes) -> None:
    # The ssl module takes files only. mkstemp makes them readable by us alone, and they live for one call.
    handle, name = tempfile.mkstemp(prefix="cloudcore-")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(cert + b"\n" + key)
        # The password: OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(name, password="")
    except (ssl.SSLError, ValueError) as exc:
        raise ConfigError(source, "client-certificate", "does not go with client-key") from exc
    finally:
        Path(name).unlink()


def _read(source: str, path: Path, key: str = "") -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        what = "" if str(path) == source else f"{path} "  # the kubeconfig itself is named already
        raise ConfigError(source, key, f"{what}cannot be read: {exc.strerror}") from exc
    except ValueError as exc:  # a NUL in the path
        raise ConfigError(source, key, f"{str(path)!r} cannot be a file: {exc}") from exc
