"""amqtt's broker with the two changes that devices need; importing this module costs 4 MiB.

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
# Half of the 1,024 descriptors a process usually may have; further devices wait. A larger site runs mosquitto.
MAX_CONNECTIONS = 512


class DeviceBroker(Broker):  # type: ignore[misc]
    """An amqtt broker that carries `$hw/...` topics between its clients, and closes what it has opened."""

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve one connection. amqtt leaves it open, and its descriptor lost, if it did not speak MQTT."""
        try:
            await super().stream_connected(reader, writer, listener_name)
        finally:
            writer.close()

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
    listener = {"type": "tcp", "bind": bind, "max_connections": MAX_CONNECTIONS}
    return DeviceBroker({"listeners": {"default": listener}, "plugins": allow})
