"""Certificates of nodes that count no more, by their owner's word: a ConfigMap that every cloudcore follows.

`kube-system/armadillo-revoked-nodes` holds a line per node: its name, and a time. What was issued to that node before
it opens nothing, so a machine that is stolen stays out and its successor comes in under the same name. `*` instead of
a time refuses later ones too, for a cluster whose nodes get new certificates by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

import msgspec
from cryptography import x509

from cloudcore.kube.client import KubeClient
from cloudcore.kube.errors import KubeNotFoundError
from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import CONFIG_MAPS, KubeObject
from cloudcore.settings import KubeSettings
from corekit.backoff import Backoff
from corekit.errors import KubeApiError
from corekit.logs import RepeatedFault
from corekit.timestamps import parse_rfc3339, rfc3339
from synccore.messages import ObjectKey

logger = logging.getLogger(__name__)

EVERY = "*"
REVOKED_NODES = ObjectKey(CONFIG_MAPS.kind, "kube-system", "armadillo-revoked-nodes")


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(_ConfigMap)


class Revocations:
    """A `NodeGate`. Until it `is_known` what the ConfigMap says, nobody must be let in.

    Whatever is doubtful counts as revoked: a time that is none, a certificate that cannot be read.
    """

    def __init__(self, client: KubeClient, config_maps: Informer, settings: KubeSettings) -> None:
        self._client, self._metas = client, config_maps
        self._since_s: dict[str, float] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._changed = asyncio.Event()
        self._known = asyncio.Event()
        self._backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s)
        self._fault = RepeatedFault(logger, f"reading {REVOKED_NODES}")
        config_maps.subscribe(self)

    async def wait_known(self) -> None:
        """Return once the ConfigMap was read, or is known not to exist."""
        await self._known.wait()

    def refusal(self, node: str, certificate: bytes) -> str:
        """Return why who shows `certificate` (PEM) may not speak for `node`, or nothing."""
        since_s = self._since_s.get(node)
        if since_s is None or issued_s(certificate) >= since_s:
            return ""
        if not math.isfinite(since_s):
            return f"all certificates of node {node!r} are revoked"
        return f"certificates of node {node!r} issued before {rfc3339(since_s)} are revoked"

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the ConfigMap changed."""
        self._callbacks.append(callback)

    async def run(self) -> None:
        """Read the ConfigMap whenever it changes, until cancelled."""
        await self._metas.wait_synced()
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                self._take(await self._read())
            except (KubeApiError, msgspec.DecodeError) as exc:
                # What was known goes on to count; at the start nobody comes in until it is known.
                self._fault.failed(exc)
                self._changed.set()
                await asyncio.sleep(self._backoff.next_delay_s())
            else:
                self._fault.cleared()
                self._backoff.reset()
                self._known.set()

    async def _read(self) -> dict[str, str]:
        if self._metas.get(REVOKED_NODES) is None:
            return {}
        try:
            raw = await self._client.get(CONFIG_MAPS.path(REVOKED_NODES))
        except KubeNotFoundError:
            return {}
        return _decoder.decode(raw).data or {}

    def _take(self, lines: dict[str, str]) -> None:
        since_s = {node: _since_s(node, text) for node, text in lines.items()}
        if since_s == self._since_s and self._known.is_set():
            return
        for node in since_s.keys() - self._since_s.keys():
            logger.warning("certificates revoked", extra={"node": node, "since": lines[node]})
        for node in self._since_s.keys() - since_s.keys():
            logger.warning("certificates count again", extra={"node": node})
        self._since_s = since_s
        for callback in self._callbacks:
            callback()

    # The informer's side.

    def on_upsert(self, obj: KubeObject) -> None:
        """Read it again if it is the one."""
        self.on_delete(obj.key)

    def on_delete(self, key: ObjectKey) -> None:
        """Read it again if it is the one."""
        if key == REVOKED_NODES:
            self._changed.set()

    def on_synced(self) -> None:
        """`run()` waits for that."""


def issued_s(certificate: bytes) -> float:
    """Return since when a PEM certificate is valid, Unix seconds; long ago if it cannot be told."""
    try:
        return x509.load_pem_x509_certificate(certificate).not_valid_before_utc.timestamp()
    except ValueError:
        return -math.inf


def _since_s(node: str, text: str) -> float:
    if text.strip() == EVERY:
        return math.inf
    try:
        return parse_rfc3339(text.strip())
    except ValueError as exc:
        problem = f"not a time, so that every certificate of the node is refused: {exc}"
        logger.warning("%s: %s: %s", REVOKED_NODES, node[:253], problem)
        return math.inf
