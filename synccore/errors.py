"""How a peer can break the sync protocol. `code` is the word that goes on the wire (docs/protocol.md, 6)."""

from __future__ import annotations

from corekit.errors import EdgeError, ProtocolError

# The cloud's word for a database that is an old copy; the edge starts a new epoch when it hears it.
STALE_DATABASE = "STALE_DATABASE"


class FrameError(ProtocolError):
    """A batch does not decode; `offset` is where its first bad record starts."""

    code = "BAD_FRAME"

    def __init__(self, reason: str, offset: int) -> None:
        self.reason, self.offset = reason, offset
        super().__init__(f"{reason} at byte {offset}")


class UnexpectedMessageError(ProtocolError):
    """A message that this state has no step for."""

    code = "UNEXPECTED_MESSAGE"

    def __init__(self, message: str, state: str) -> None:
        self.message, self.state = message, state
        super().__init__(f"{message} in state {state}")


class FrameNumberError(ProtocolError):
    """A frame or acknowledgement out of sequence."""

    code = "BAD_NUMBER"

    def __init__(self, what: str, lane: str, got: int, expected: str) -> None:
        self.what, self.lane, self.got, self.expected = what, lane, got, expected
        super().__init__(f"{what} {got} in lane {lane}, expected {expected}")


class VersionMismatchError(ProtocolError):
    """The peer speaks another major version of the protocol."""

    code = "VERSION_MISMATCH"

    def __init__(self, theirs: int, ours: int) -> None:
        self.theirs, self.ours = theirs, ours
        super().__init__(f"peer speaks protocol {theirs}, we speak {ours}")


class LimitError(ProtocolError):
    """Something from the peer is larger than this side takes, or too small to be what it says."""

    code = "TOO_LARGE"

    def __init__(self, what: str, got: int, limit: int) -> None:
        self.what, self.got, self.limit = what, got, limit
        super().__init__(f"{what}: {got}, and the limit is {limit}")


class StreamRuleError(ProtocolError):
    """The peer broke the rules of a tunnelled byte stream: an id, a credit or an order that cannot be."""

    code = "BAD_STREAM"

    def __init__(self, stream_id: int, problem: str) -> None:
        self.stream_id, self.problem = stream_id, problem
        super().__init__(f"stream {stream_id}: {problem}")


class SessionClosedError(EdgeError):
    """The peer ended the session with a Close; `code` says whether dialling again can help."""

    def __init__(self, code: str, reason: str, retry_after_s: float) -> None:
        self.code, self.reason, self.retry_after_s = code, reason, retry_after_s
        super().__init__(f"closed by peer: {code}: {reason}")
