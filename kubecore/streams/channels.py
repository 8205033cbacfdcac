"""One `exec` or `attach`: WebSocket messages of v5.channel.k8s.io on one side, SPDY streams on the other; pure.

A message is a channel number and bytes; channel 255 closes the channel it names. On the kubelet's side each channel
is a stream that we open, named in its header.
Source:  Kubernetes 1.29 `StreamTranslator`; k8s.io/client-go/tools/remotecommand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from kubecore.streams.errors import SpdyError
from kubecore.streams.spdy import Data, GoAway, Ping, Reset, SpdyConnection, data_frame, ping

V5 = "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
_CLOSE = 255
_NAMES = {ERROR: "error", STDIN: "stdin", STDOUT: "stdout", STDERR: "stderr", RESIZE: "resize"}
_LOST = "the connection to the node was lost before the command ended"
SUCCESS = {"metadata": {}, "status": "Success"}


@dataclass(frozen=True)
class Wanted:
    """Which streams the client asked for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    def channels(self) -> list[int]:
        """Return the channels in the order in which their streams are opened."""
        chosen = {
            ERROR: True,
            STDIN: self.stdin,
            STDOUT: self.stdout,
            STDERR: self.stderr and not self.tty,
            RESIZE: self.tty,
        }
        return [channel for channel in _NAMES if chosen[channel]]


class ChannelTranslator:
    """Translates until every stream of the kubelet has ended; then `ended`, and `farewell` says how."""

    def __init__(self, wanted: Wanted) -> None:
        self._spdy = SpdyConnection()
        # A client's streams have odd numbers.
        self._streams = {channel: 2 * i + 1 for i, channel in enumerate(wanted.channels())}
        self._channels = {stream: channel for channel, stream in self._streams.items()}
        self._reading = {c for c in self._streams if c in (STDOUT, STDERR, ERROR)}
        self._writing = {c for c in self._streams if c in (STDIN, RESIZE)}
        self._error_said = False

    @property
    def ended(self) -> bool:
        """Whether nothing more will come from the kubelet."""
        return not self._reading

    def opening(self) -> bytes:
        """Return what to send to the kubelet first."""
        return b"".join(
            self._spdy.open_stream(stream, {"streamType": _NAMES[channel]})
            for channel, stream in self._streams.items()
        )

    def greeting(self) -> bytes | None:
        """Return the empty message that tells the client, as upstream does, that its command has begun."""
        first = min((c for c in self._reading if c != ERROR), default=None)
        return None if first is None else bytes([first])

    def to_kubelet(self, message: bytes) -> bytes:
        """Return the bytes that carry a client's message on; b"" if it says nothing."""
        if not message:
            return b""
        channel, content = message[0], message[1:]
        if channel == _CLOSE:
            closed = content[0] if content else -1
            if closed not in self._writing:
                return b""
            self._writing.discard(closed)
            return data_frame(self._streams[closed], b"", fin=True)
        if channel not in self._writing or not content:
            return b""
        return data_frame(self._streams[channel], content)

    def from_kubelet(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Return the messages for the client, and what the kubelet wants back.

        Raises:  SpdyError: the kubelet does not speak SPDY/3.1.
        """
        messages, answers = [], b""
        for frame in self._spdy.feed(data):
            match frame:
                case Data(stream, content, fin):
                    channel = self._channels.get(stream)
                    if channel in self._reading:
                        if content:
                            self._error_said |= channel == ERROR
                            messages.append(bytes([channel]) + content)
                        if fin:
                            self._reading.discard(channel)
                case Reset(stream):
                    self._reading.discard(self._channels.get(stream, -1))
                case Ping(number):
                    answers += ping(number)
                case GoAway():
                    continue
        return messages, answers

    def farewell(self) -> bytes | None:
        """Return the last message on the error channel, if the kubelet sent none itself."""
        if self._error_said:
            return None
        status = SUCCESS if self.ended else failure(_LOST)
        self._error_said = True
        return bytes([ERROR]) + json.dumps(status).encode()


def failure(message: str) -> dict[str, object]:
    """Return the Status of a command that failed for a reason of ours."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "InternalError",
        "code": 500,
    }


__all__ = ["V5", "ChannelTranslator", "SpdyError", "Wanted", "failure"]
