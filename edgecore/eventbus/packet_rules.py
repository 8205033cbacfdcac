"""What both twins of the MQTT packet codec share: the limits of the protocol, and its error.

Source:  MQTT 3.1.1 and 5.0 (OASIS), sections 2.1, 3.3 and 3.4.
"""

from __future__ import annotations

from corekit.errors import EdgeError

# Four bytes of seven bits each.
MAX_REMAINING_BYTES = 4
# The length of a topic has two bytes.
MAX_TOPIC_BYTES = 65_535
MAX_PACKET_ID = 65_535


class PacketError(EdgeError):
    """The broker sent what is no MQTT packet for us; `offset` is where that packet begins in what was read."""

    def __init__(self, reason: str, offset: int) -> None:
        self.reason, self.offset = reason, offset
        super().__init__(f"{reason} at byte {offset}")
