"""The embedded MQTT broker: amqtt on loopback, in memory only. Real sites run mosquitto and set `broker.url`."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Self

from corekit.backoff import Backoff
from corekit.errors import SETTINGS, ConfigError
from corekit.logs import RepeatedFault
from edgecore.eventbus.access import read_passwords
from edgecore.eventbus.bus import broker_address
from edgecore.settings import BrokerSettings

if TYPE_CHECKING:
    from amqtt.broker import Broker

logger = logging.getLogger(__name__)

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.2, 10.0
# amqtt waits for a client's goodbye without end; a component has to be gone within its share of 10 s.
STOP_TIMEOUT_S = 2.0


class EmbeddedBroker:
    """Serve MQTT 3.1.1 on `broker.embedded_address` for as long as `run()` runs."""

    name = "broker"

    def __init__(self, settings: BrokerSettings) -> None:
        self._address = broker_address(settings)
        _require_loopback(self._address.host)
        self._passwords = _read_password_file(settings.password_file)
        self._backoff = Backoff(BACKOFF_MIN_S, BACKOFF_MAX_S)
        spoken = f"{self._address.host}:{self._address.port}"
        self._fault = RepeatedFault(logger, f"embedded mqtt broker on {spoken}")

    async def __aenter__(self) -> Self:
        """Take nothing: a port still held by a dying predecessor is waited for in `run()`."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Release nothing: `run()` stops the broker it started."""

    async def run(self) -> None:
        """Listen until cancelled; a port that is taken is said once and tried again."""
        broker = await self._start()
        while broker is None:
            delay_s = self._backoff.next_delay_s()
            await asyncio.sleep(delay_s)
            broker = await self._start()
        self._fault.cleared()
        try:
            await asyncio.Event().wait()
        finally:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await broker.shutdown()

    async def _start(self) -> Broker | None:
        # Late: an agent with a real broker does not pay for this one.
        from amqtt.errors import BrokerError

        from edgecore.eventbus.amqtt_broker import make_broker

        _quiet_amqtt()
        host, port = self._address.host, self._address.port
        broker = make_broker(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            self._passwords,
            self._address.password or "",
        )
        try:
            await broker.start()
        except BrokerError as exc:
            self._fault.failed(exc.__cause__ or exc)
            return None
        return broker


def _quiet_amqtt() -> None:
    # amqtt says three lines per connection at INFO, and at ERROR what is our own retry.
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.WARNING)


def _read_password_file(name: str) -> dict[str, str] | None:
    if not name:
        return None
    try:
        return read_passwords(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        problem = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ConfigError(SETTINGS, "broker.password_file", f"{name}: {problem}") from exc


def _require_loopback(host: str) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        problem = f"{host} is not a loopback address, and the embedded broker speaks plain text"
        raise ConfigError(SETTINGS, "broker.embedded_address", problem)
