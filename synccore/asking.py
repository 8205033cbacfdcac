"""Questions of the edge and their answers: numbered, few at a time, each answered at most once. Pure.

Nothing of it is durable: who asks asks again. An answer is not a record, and no lane carries it.
Source: docs/protocol.md, section 10.
"""

from __future__ import annotations

from dataclasses import dataclass

from corekit.errors import EdgeError
from synccore.errors import FrameNumberError, LimitError
from synccore.messages import MAX_ASK_BYTES, MAX_OUTSTANDING_ASKS, Answer, Ask

OK, UNKNOWN_KIND, TOO_MANY, FAILED, TOO_LATE = 200, 404, 429, 500, 504


class AskError(EdgeError):
    """A question was answered with other than 200, or could not be put; `status` as HTTP's, 0: no link."""

    def __init__(self, kind: str, status: int, reason: str) -> None:
        self.kind, self.status, self.reason = kind, status, reason
        self.retryable = status in (0, 408, TOO_MANY) or status >= 500
        super().__init__(f"{kind}: {status} {reason}" if status else f"{kind}: {reason}")


@dataclass(frozen=True, slots=True)
class Asked:
    """The node asks; call `answer(id, ...)` within the deadline."""

    id: int
    kind: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """The cloud has answered the question of that id."""

    id: int
    status: int
    body: bytes


class Questions:
    """The edge's side: which questions wait for their answers."""

    __slots__ = ("_last", "_waiting")

    def __init__(self) -> None:
        self._last = 0
        self._waiting: set[int] = set()

    def put(self, kind: str, body: bytes) -> Ask:
        """Return the next question. Raises: AskError: too large, or too many wait."""
        if len(body) > MAX_ASK_BYTES:
            raise AskError(kind, 413, f"{len(body)} bytes, and the limit is {MAX_ASK_BYTES}")
        if len(self._waiting) >= MAX_OUTSTANDING_ASKS:
            raise AskError(kind, TOO_MANY, f"{MAX_OUTSTANDING_ASKS} questions wait already")
        self._last += 1
        self._waiting.add(self._last)
        return Ask(self._last, kind, body)

    def forget(self, number: int) -> None:
        """Give up on a question; its answer is dropped when it comes."""
        self._waiting.discard(number)

    def take(self, answer: Answer) -> list[Answered]:
        """Return the event, or nothing if nobody waits for it any more. Raises: ProtocolError."""
        if not 0 < answer.id <= self._last:
            raise FrameNumberError("answer", "-", answer.id, f"at most {self._last}")
        if len(answer.body) > MAX_ASK_BYTES:
            raise LimitError("answer bytes", len(answer.body), MAX_ASK_BYTES)
        if answer.id not in self._waiting:
            return []
        self._waiting.remove(answer.id)
        return [Answered(answer.id, answer.status, answer.body)]


class Answers:
    """The cloud's side: which questions it owes an answer."""

    __slots__ = ("_last", "_open")

    def __init__(self) -> None:
        self._last = 0
        self._open: set[int] = set()

    def take(self, ask: Ask) -> Asked | Answer:
        """Return the event, or the refusal of one question too many. Raises: ProtocolError."""
        if ask.id != self._last + 1:
            raise FrameNumberError("question", "-", ask.id, str(self._last + 1))
        if len(ask.body) > MAX_ASK_BYTES:
            raise LimitError("question bytes", len(ask.body), MAX_ASK_BYTES)
        self._last = ask.id
        if len(self._open) >= MAX_OUTSTANDING_ASKS:
            text = f"{MAX_OUTSTANDING_ASKS} questions of this node wait already"
            return Answer(ask.id, TOO_MANY, text.encode())
        self._open.add(ask.id)
        return Asked(ask.id, ask.kind, ask.body)

    def answer(self, number: int, status: int, body: bytes) -> Answer:
        """Return the answer to send; one that is too large becomes a 500 that says so."""
        self._open.remove(number)
        if len(body) > MAX_ASK_BYTES:
            text = f"an answer of {len(body)} bytes, and the limit is {MAX_ASK_BYTES}"
            return Answer(number, FAILED, text.encode())
        return Answer(number, status, body)
