"""Keeps the stream to cloudcore open: dial, serve, wait with full jitter, dial again."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import NoReturn, Self

from corekit.backoff import Backoff
from corekit.errors import EdgeError, ProtocolError, StoreError, TransportError
from corekit.keyfiles import warn_of_open_key
from corekit.lifecycle import apart, forget_frames, leaf_exceptions
from corekit.logs import RepeatedFault
from corekit.looplag import LoopLag
from edgecore import metrics
from edgecore.edgehub.applying import EventOf
from edgecore.edgehub.blocks import BlockSource, NoBlocks
from edgecore.edgehub.horizon import Horizon
from edgecore.edgehub.link import HubStore, LaneFeed, Link, RebuiltFeed, StoreRebuiltError
from edgecore.edgehub.stream import SyncStream, dial
from edgecore.records import Report
from edgecore.settings import HubSettings
from edgecore.streams import StreamHandler, serve_nothing
from synccore.asking import AskError
from synccore.edge_session import EdgeSession
from synccore.errors import STALE_DATABASE, SessionClosedError
from synccore.messages import Hello

logger = logging.getLogger(__name__)

Dial = Callable[[HubSettings], AbstractAsyncContextManager[SyncStream]]

# With these the cloud says when to come back, node by node.
TURN_CODES = frozenset({"NOT_NOW", "NOT_READY"})
TURN_JITTER_S = 0.25
# Whatever a cloud says: a site must not stay away for a day because of one wrong number.
MAX_DELAY_S = 300.0


class EdgeHub:
    """Component: one live link at a time for as long as `run()` runs, and the `Uplink` for what is volatile.

    Nothing the cloud does ends the agent: a refusal, a broken contract and a lost link are all retried,
    each said once.
    """

    name = "edgehub"

    def __init__(
        self,
        settings: HubSettings,
        node_name: str,
        store: HubStore,
        *,
        samples: BlockSource | None = None,
        event_of: EventOf | None = None,
        dial_with: Dial = dial,
        clock: Callable[[], float] = time.monotonic,
        lag: LoopLag | None = None,
    ) -> None:
        """Shapes: lag: somebody else's, who runs it; None: its own."""
        self._lag, self._owns_lag = lag or LoopLag(clock), lag is None
        self._settings, self._node_name, self._store = settings, node_name, store
        self._samples = samples or NoBlocks()
        self._horizon = Horizon(store)
        self._dial, self._clock, self._event_of = dial_with, clock, event_of
        self._backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s)
        self._rng = random.Random()
        self._fault, self._said_code = RepeatedFault(logger, "edgehub: no link to cloudcore"), ""
        self._link: Link | None = None
        self._spread_s = 0.0  # of the link that was lost last; for one dial
        self._report_all: list[Callable[[], None]] = []
        self._streams: StreamHandler = serve_nothing
        self._feed: LaneFeed | None = None
        self._rebuilt: RebuiltFeed | None = None

    def on_report_all(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the cloud wants every state again."""
        self._report_all.append(callback)

    def serve_streams(self, handler: StreamHandler) -> None:
        """Let `handler` serve the byte streams that the cloud opens from now on."""
        self._streams = handler

    @property
    def connected(self) -> bool:
        """Whether cloudcore has welcomed us on the present link."""
        return self._link is not None and self._link.joined

    @property
    def in_sync(self) -> bool:
        """Whether everything that the cloud had for us has arrived on the present link."""
        return self._link is not None and self._link.in_sync

    def offer(self, report: Report) -> None:
        """Send `report` if connected; forget it otherwise."""
        if self._link is not None and self._link.joined:
            self._link.offer(report)

    async def ask(self, kind: str, body: bytes) -> bytes:
        """Return the cloud's answer. Raises: AskError."""
        if self._link is None or not self._link.joined:
            raise AskError(kind, 0, "no link to cloudcore")
        return await self._link.ask(kind, body)

    async def __aenter__(self) -> Self:
        """Take the outbox feed; no network here, an edge node must start offline."""
        self._feed, self._rebuilt = self._store.outbox_feed(), self._store.rebuilt_feed()
        await asyncio.to_thread(warn_of_open_key, self._settings.key_file)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release: `run()` closes the stream that it opened."""

    async def run(self) -> None:
        """Dial and serve, for ever."""
        async with asyncio.TaskGroup() as group:
            if self._owns_lag:
                group.create_task(self._lag.run(), name="edgehub_lag")
            await self._dial_for_ever()

    async def _dial_for_ever(self) -> NoReturn:
        await self._horizon.load()
        while True:
            metrics.dials.inc()
            problem = await apart(self._serve_once())
            if isinstance(problem, SessionClosedError) and problem.code == STALE_DATABASE:
                await self._leave_the_old_epoch(problem)
            delay_s = self._delay_s(problem)
            self._say(problem, delay_s)
            await asyncio.sleep(delay_s)

    def _delay_s(self, problem: EdgeError) -> float:
        if isinstance(problem, SessionClosedError) and problem.code in TURN_CODES:
            # The cloud has given us a turn: it knows how many wait, our own back-off does not. A little later
            # than that, each by another bit, because two clocks never agree.
            return min(problem.retry_after_s, MAX_DELAY_S) + self._rng.uniform(0.0, TURN_JITTER_S)
        spread_s = self._spread_s if _cuts_many(problem) else 0.0
        delay_s = self._backoff.next_delay_s(spread_s)
        if isinstance(problem, SessionClosedError):
            delay_s = max(delay_s, problem.retry_after_s)
        return min(delay_s, MAX_DELAY_S)

    def _say(self, problem: EdgeError, delay_s: float) -> None:
        code = getattr(problem, "code", "")
        if (
            code != self._said_code
        ):  # another reason than the one that was said: worth a line of its own
            self._fault = RepeatedFault(logger, "edgehub: no link to cloudcore")
            self._said_code = code
        text = str(problem) if code in str(problem) else f"{code}: {problem}"
        self._fault.failed(f"{text} (next try in {delay_s:.1f} s)")

    async def _serve_once(self) -> EdgeError:
        """Serve one stream until it breaks; return why."""
        assert self._feed is not None
        assert self._rebuilt is not None
        try:
            async with self._dial(self._settings) as stream:
                session = EdgeSession(
                    self._hello(), self._store.index.entries, self._clock(), self._lag.was_late
                )
                self._link = Link(
                    session,
                    stream,
                    self._store,
                    self._feed,
                    self._rebuilt,
                    self._samples,
                    clock=self._clock,
                    on_joined=self._joined,
                    on_reports_wanted=self._reports_wanted,
                    event_of=self._event_of,
                    streams=self._streams,
                    horizon=self._horizon,
                )
                await self._link.serve()
        except EdgeError as exc:
            forget_frames(exc)
            return exc
        except BaseExceptionGroup as group:
            reason = _reason(group)
            forget_frames(group)
            return reason
        finally:
            self._spread_s = 0.0 if self._link is None else self._link.spread_s
            self._link = None
        raise AssertionError("serve() returned")

    async def _leave_the_old_epoch(self, refusal: SessionClosedError) -> None:
        """Start a new epoch: what waits to be said is older than what the cloud has heard of this database."""
        logger.warning("edgehub: this database is an old copy, starting anew: %s", refusal.reason)
        try:
            await self._store.start_epoch()
        except StoreError as exc:
            self._fault.failed(exc)  # the next dial is refused too, and tries again

    def _joined(self) -> None:
        # Not at connect: a cloud that accepts and hangs up must not be hammered.
        self._backoff.reset()
        self._fault.cleared()
        self._said_code = ""

    def _reports_wanted(self) -> None:
        for callback in self._report_all:
            callback()

    def _hello(self) -> Hello:
        index = self._store.index
        return Hello(
            node_name=self._node_name,
            database_id=self._store.database_id,
            digest=index.digest(),
            record_count=len(index),
            agent_version=version("armadillo-edge"),
            boot_id=self._store.run_id,
            fork=self._store.fork,
            horizon=self._horizon.value,
        )


def _cuts_many(problem: EdgeError) -> bool:
    """Tell whether what ended a link may have ended those of all other nodes at the same moment."""
    if isinstance(problem, SessionClosedError):
        return problem.code == "DRAINING"
    return isinstance(problem, TransportError) and not isinstance(problem, StoreRebuiltError)


def _reason(group: BaseExceptionGroup[BaseException]) -> EdgeError:
    """Return the failure that explains the others: what the peer said, then what it broke, then the rest.

    Raises:  the group itself, if something in it is a bug or a broken store, which no new dial mends.
    """
    leaves = leaf_exceptions(group)
    ours = [exc for exc in leaves if isinstance(exc, EdgeError)]
    if len(ours) < len(leaves):
        raise group
    for kind in (SessionClosedError, ProtocolError, StoreError):
        for exc in ours:
            if isinstance(exc, kind):
                return exc
    return ours[0]
