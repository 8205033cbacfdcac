"""The HTTPS listener."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import logging
import os
import ssl
from collections.abc import Iterator
from typing import Self

from aiohttp import web

from corekit.errors import SETTINGS, ConfigError
from kubecore.objects.watching import WatchHub
from kubecore.serving.api import Api
from kubecore.settings import ServeSettings

logger = logging.getLogger(__name__)

# asyncio gives each TLS connection a 256 KiB read buffer; 16 KiB (one TLS record) costs no throughput. uvloop
# has its own, smaller one.
_TLS_BUFFER_BYTES = 16 << 10
# A watch ends by itself when the hub closes; what is left after this hangs.
_SHUTDOWN_S = 1.0


class ApiServer:
    """Component: bind on enter, serve, and on exit end the watches before the connections."""

    name = "kubecore"

    def __init__(self, settings: ServeSettings, api: Api, hub: WatchHub) -> None:
        self._settings, self._api, self._hub = settings, api, hub
        self.port = 0

    @property
    def bound(self) -> tuple[str, int]:
        """Host and port that are listened on, once entered."""
        return split_address(self._settings.address)[0], self.port

    async def __aenter__(self) -> Self:
        host, port = split_address(self._settings.address)
        context = tls_context(self._settings)
        asyncio.sslproto.SSLProtocol.max_size = _TLS_BUFFER_BYTES
        self._runner = web.AppRunner(
            self._api.application(),
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, ssl_context=context).start()
        except OSError as exc:
            await self._runner.cleanup()
            problem = f"cannot listen on {self._settings.address}: {os.strerror(exc.errno or 0)}"
            raise ConfigError(SETTINGS, "serve.address", problem) from exc
        self.port = self._runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        logger.info("kubecore: serving https://%s:%d", shown, self.port)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._hub.close()
        await self._runner.cleanup()

    async def run(self) -> None:
        """Serve until cancelled."""
        await asyncio.Event().wait()


def tls_context(settings: ServeSettings) -> ssl.SSLContext:
    """Return TLS 1.2 or newer that asks for a client certificate; who has none is answered 401.

    Raises:  ConfigError: naming the file that is missing or wrong.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    with _naming("serve.cert_file, serve.key_file", settings.cert_file):
        context.load_cert_chain(settings.cert_file, settings.key_file)
    with _naming("serve.client_ca_file", settings.client_ca_file):
        context.load_verify_locations(settings.client_ca_file)
    return context


@contextlib.contextmanager
def _naming(key: str, path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(SETTINGS, key, f"{path} cannot be used: {exc.strerror or exc}") from exc


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT` or `[HOST]:PORT`.

    Raises:  ConfigError.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(SETTINGS, "serve.address", f"{address!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
