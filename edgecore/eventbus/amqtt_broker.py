"""amqtt's broker with the four changes that devices need; importing this module costs 4 MiB.

A device may be kept to its own topics: amqtt's plugins are not asked about `$hw/` topics and last wills, so this is not
one. amqtt closes the connection of a client that publishes to a topic with a leading `$`. MQTT leaves such topics
to the server's purposes, and this server's purpose is `$hw/`. amqtt looks up the session of a client id, ends or changes
it, and only then asks for the password: here who asks is known first, and client ids are each user's own. The overridden
methods are private to amqtt, so `tests/integration/test_mqtt_brokers.py` and `test_mqtt_access.py` are what says that a
newer amqtt still calls them.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.errors import MQTTError
from amqtt.mqtt.connack import NOT_AUTHORIZED, ConnackPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session

from edgecore.eventbus.access import AGENT, may, password_fits

DEVICE_TOPICS = "$hw/"
# Half of the 1,024 descriptors a process usually may have; further devices wait. A larger site runs mosquitto.
MAX_CONNECTIONS = 512


class DeviceBroker(Broker):  # type: ignore[misc]
    """An amqtt broker that carries `$hw/...` topics between its clients, and closes what it has opened.

    Shapes:  passwords: hash by user, the only users there are; None: whoever reaches the port may do everything.
    """

    def __init__(
        self, config: dict[str, Any], passwords: dict[str, str] | None, agent_secret: str
    ) -> None:
        super().__init__(config)
        self._passwords, self._agent_secret = passwords, agent_secret

    async def _initialize_client_session(
        self, reader: Any, writer: Any, remote_address: str, remote_port: int
    ) -> tuple[BrokerProtocolHandler, Session]:
        if self._passwords is None:
            opening = super()._initialize_client_session
            opened: tuple[BrokerProtocolHandler, Session]
            opened = await opening(reader, writer, remote_address, remote_port)
            return opened
        handler, session = await BrokerProtocolHandler.init_from_connect(
            reader, writer, self.plugins_manager
        )
        if not self._is_known(session):
            await ConnackPacket.build(0, NOT_AUTHORIZED).to_stream(writer)
            raise MQTTError("who asks is not known")
        # No user's name has a line break: nobody can reach another's session, whatever id he gives.
        session.client_id = f"{session.username}\n{session.client_id}"
        session.is_anonymous = False
        return handler, await self._resumed(session)

    async def _resumed(self, asked: Session) -> Session:
        """Return the session to go on with: the one kept under this id, with the new connection's will, or a new one."""
        if asked.clean_session:
            await self._delete_session(asked.client_id)
        kept, _ = self._sessions.get(asked.client_id, (None, None))
        if kept is None:
            asked.parent = 0
            return asked
        for name in ("flag", "message", "topic", "qos", "retain"):
            setattr(kept, f"will_{name}", getattr(asked, f"will_{name}"))
        kept.keep_alive, kept.password, kept.parent = asked.keep_alive, asked.password, 1
        return kept

    async def _authenticate(self, session: Session, listener: Any) -> bool:
        if self._passwords is None:
            allowed: bool = await super()._authenticate(session, listener)
            return allowed
        return self._is_known(session)

    def _is_known(self, session: Session) -> bool:
        user, password = session.username or "", session.password or ""
        if user == AGENT:
            return hmac.compare_digest(password.encode(), self._agent_secret.encode())
        hashes = self._passwords or {}
        return user in hashes and password_fits(hashes[user], password)

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        if self._passwords is None:
            allowed: bool = await super()._topic_filtering(session, topic, action)
            return allowed
        return may(session.username or "", topic)

    async def _broadcast_message(
        self,
        session: Session | None,
        topic: str | None,
        data: bytes | bytearray | None,
        force_qos: int | None = None,
    ) -> None:
        # Here and not only where a message comes in: a last will is published without being asked about.
        if self._allows(session, topic):
            await super()._broadcast_message(session, topic, data, force_qos)

    async def retain_message(
        self,
        source_session: Session | None,
        topic_name: str | None,
        data: bytes | bytearray | None,
        qos: int | None = None,
    ) -> None:
        """Keep a message for who subscribes later, if its sender may publish it."""
        if self._allows(source_session, topic_name):
            await super().retain_message(source_session, topic_name, data, qos)

    def _allows(self, session: Session | None, topic: str | None) -> bool:
        if self._passwords is None or session is None:
            return True
        return may(session.username or "", topic or "")

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


def make_broker(
    bind: str, passwords: dict[str, str] | None = None, agent_secret: str = ""
) -> Broker:
    """Return a broker that will listen on `bind`, in memory only; without passwords open to everybody here."""
    allow = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    # The default plugins log every packet and publish $SYS topics; neither is wanted on a gateway.
    listener = {"type": "tcp", "bind": bind, "max_connections": MAX_CONNECTIONS}
    config = {"listeners": {"default": listener}, "plugins": allow}
    return DeviceBroker(config, passwords, agent_secret)
