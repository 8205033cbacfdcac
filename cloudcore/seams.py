"""What cloudcore's parts share: where a node's records come from, and where its reports go.

`edgecontroller` implements `RecordSource`; `edgecontroller` and `devicecontroller` implement `ReportSink`; whoever
wants every value of devices implements `SampleSink`; `cloudhub` uses them and knows nothing of Kubernetes. `nodeproxy` reaches into nodes by
`NodeStreams`, which `cloudhub` implements, and hears of them as a `NodeWatcher`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from corekit.bytestream import ByteStream
from corekit.errors import EdgeError
from synccore.index import RecordIndex
from synccore.messages import Delta, ObjectKey
from synccore.series import Readings


class NodeView(Protocol):
    """The records one node must hold, as the informers know them now."""

    @property
    def index(self) -> RecordIndex:
        """Keys and versions."""

    def read(self, key: ObjectKey) -> Delta | None:
        """Return the newest delta of `key` (an UPSERT), or None if the node must not hold it."""

    def close(self) -> None:
        """Stop calling `on_change`."""


class RecordSource(Protocol):
    """All nodes' records."""

    def ready(self, node: str, horizon: int = 0) -> bool:
        """Tell whether the index of `node` can be trusted: every informer has listed once, what its pods refer
        to has been fetched, and nothing is older than what the node was told of, `horizon`, maybe by another
        cloudcore. Asking starts what is missing.
        """

    def horizon(self) -> int:
        """Return how far the indexes have come, in the cluster's one order of changes; 0 if it has none."""

    def open(
        self,
        node: str,
        on_change: Callable[[ObjectKey], None],
        on_given_up: Callable[[], None],
    ) -> NodeView:
        """Return the view of `node`; `on_change(key)` is called in the loop for each later change.

        `on_given_up()` is called, also during `open`, when the cluster has given the node up, and when the node is
        ready again: the cluster has then written states of its own over the node's, and only the node can say
        what is true.
        """


class ReportSink(Protocol):
    """Takes what nodes report."""

    async def write(self, node: str, delta: Delta) -> None:
        """Return when `delta` of `node` is durable beyond cloudcore, or can never be (its object is gone,
        the API server calls it invalid: said in the log). Retries what may pass; never raises KubeApiError.
        """


class AskSink(Protocol):
    """Answers questions of nodes."""

    async def answer(self, node: str, kind: str, body: bytes) -> tuple[int, bytes]:
        """Return (status, body) as HTTP has them; 404 for a kind that is not known. Raises nothing of its own.

        It is cancelled when the node's stream ends or the deadline of 30 s passes.
        """


class SampleOrigin(NamedTuple):
    """Where a block of readings comes from.

    Shapes:  sequence: with the database id the block's name, the same whenever it is sent, so that who stores
             blocks can tell one that it has; 0: it was in no database and is not sent after a restart.
    """

    node: str
    database_id: bytes
    sequence: int


class SampleSink(Protocol):
    """Takes readings that come at rate: no write to the Kubernetes API for any of them."""

    async def take(self, origin: SampleOrigin, readings: Readings) -> None:
        """Return when the readings are taken over: the edge forgets them then. Waiting here slows the node down."""


class StreamRefusedError(EdgeError):
    """A node did not open a byte stream; `code` is a word of synccore.tunnels.CODES."""

    def __init__(self, code: str, problem: str) -> None:
        self.code = code
        super().__init__(problem)


class NodeStreams(Protocol):
    """Byte streams into nodes, through their connections."""

    async def open_stream(self, node: str, target: str) -> ByteStream:
        """Open a stream to what `target` (JSON) names at `node`.

        Raises:  StreamRefusedError: not connected, or the node says no. StreamBrokenError: the link was lost.
        """


class NodeWatcher(Protocol):
    """Hears of nodes that come and go."""

    def joined(self, node: str) -> bool:
        """Note that `node` is connected; return whether it has to report every state again."""

    def left(self, node: str) -> None:
        """Note that `node` is not connected any more."""


class NoWatcher:
    """A `NodeWatcher` that does not care."""

    def joined(self, _node: str) -> bool:
        """Return False."""
        return False

    def left(self, _node: str) -> None:
        """Do nothing."""


class NodeGate(Protocol):
    """Whose certificates count no more, although they are in order."""

    def refusal(self, node: str, certificate: bytes) -> str:
        """Return why who shows `certificate` (PEM) may not speak for `node`, or nothing."""

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever an answer may have become another one."""


class OpenGate:
    """A `NodeGate` for whom every certificate of the authority counts."""

    def refusal(self, _node: str, _certificate: bytes) -> str:
        """Return nothing."""
        return ""

    def on_change(self, _callback: Callable[[], None]) -> None:
        """Never call."""
