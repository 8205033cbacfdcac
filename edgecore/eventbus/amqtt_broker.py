"""amqtt's broker with the one change that device topics need; importing this module costs 4 MiB.

amqtt closes the connection of a client that publishes to a topic with a leading `$`. MQTT leaves such topics
to the server's purposes, and this server's purpose is `$hw/`. The overridden method is private to amqtt, so
`tests/integration/test_mqtt_brokers.py` is what says that a newer amqtt still calls it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from amqtt.broker import Broker
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session

DEVICE_TOPICS = "$hw/"


class DeviceBroker(Broker):  # type: ignore[misc]
    """An amqtt broker that carries `$hw/...` topics between its clients."""

    async def _handle_message_delivery(
        self,
        client_session: Session,
        handler: BrokerProtocolHandler,
        wait_deliver: asyncio.Future[Any],
    ) -> bool:
        message = wait_deliver.result()
        topic = message.topic if message else ""
        if not topic.startswith(DEVICE_TOPICS) or "#" in topic or "+" in topic:
            allowed: bool = await super()._handle_message_delivery(
                client_session, handler, wait_deliver
            )
            return allowed
        await self._broadcast_message(client_session, topic, message.data)
        if message.publish_packet and message.publish_packet.retain_flag:
            await self.retain_message(client_session, topic, message.data, message.qos)
        return True


def make_broker(bind: str) -> Broker:
    """Return a broker that will listen on `bind`, in memory only, open to everybody on the machine."""
    allow = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    # The default plugins log every packet and publish $SYS topics; neither is wanted on a gateway.
    return DeviceBroker({"listeners": {"default": {"type": "tcp", "bind": bind}}, "plugins": allow})
