"""The mapper's side of DMI towards edgecore: register, report; over one unix socket, with deadlines."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc

from corekit.backoff import Backoff
from corekit.logs import RepeatedFault
from devicemodels.pb import dmi_pb2 as pb
from devicemodels.pb import dmi_pb2_grpc, readings_pb2_grpc
from mappers.sdk.errors import EdgeLostError
from mappers.sdk.outbox import Observed, Outbox
from mappers.sdk.readings import NoStreamsError, Readings, ReadingStream
from mappers.sdk.values import text_of_value

logger = logging.getLogger(__name__)

API_VERSION = "v1beta1"
CALL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Identity:
    """What a mapper says of itself. Shapes: socket: path of its own unix socket."""

    name: str
    protocol: str
    version: str
    socket: str


class EdgeClient:
    """Tells edgecore everything that waits in its outbox; nothing is lost while edgecore is away but old readings."""

    def __init__(self, socket: str, identity: Identity) -> None:
        self._identity, self._socket = identity, socket
        self.outbox = Outbox()
        self._waiting = asyncio.Event()
        self._backoff = Backoff(0.1, 5.0)
        self._fault = RepeatedFault(logger, f"edgecore at {socket}")
        self._refused = RepeatedFault(logger, "edgecore refused values")
        # A line when it begins and one when all is told again: each reading that was replaced is one less to tell.
        self._behind = RepeatedFault(
            logger, "edgecore does not keep up, readings replaced by newer ones"
        )
        self._streams = True  # until edgecore says that it knows no streams

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(
            f"unix:{self._socket}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self._manager = dmi_pb2_grpc.DeviceManagerServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._readings = readings_pb2_grpc.ReadingServiceStub(self._channel)  # type: ignore[no-untyped-call]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._channel.close(None)

    def read(self, device: str, prop: str, value: float | str) -> None:
        """Report a reading, now: a number where the property's type is one, else its text."""
        overtaken_count = self.outbox.overtaken_count
        self.outbox.read(device, prop, value, time.time_ns() // 1_000_000)
        if self.outbox.overtaken_count != overtaken_count:
            self._behind.failed(f"{self.outbox.overtaken_count} so far")
        self._waiting.set()

    def observe(self, device: str, prop: str, value: str, error: str = "") -> None:
        """Report that the device has taken a desired value, or refused it."""
        self.outbox.observed.setdefault(device, {})[prop] = Observed(value, error)
        self._waiting.set()

    def state(self, device: str, state: str) -> None:
        """Report the state of a device: online, offline, unhealthy."""
        self.outbox.states[device] = state
        self._waiting.set()

    def forget(self, device: str) -> None:
        """Drop what waits of a device that is gone."""
        self.outbox.forget(device)

    async def run(self, registered: Callable[[pb.MapperRegisterResponse], None]) -> None:
        """Register, then report what there is, and again whenever edgecore was away; until cancelled.

        Shapes:  registered: takes the mapper's models and devices, as edgecore has them now.
        """
        while True:
            try:
                answer = await self._register()
                registered(answer)
                self._fault.cleared()
                await self._report()
            except EdgeLostError as exc:
                self._fault.failed(exc)
                await asyncio.sleep(self._backoff.next_delay_s())

    async def _register(self) -> pb.MapperRegisterResponse:
        who = self._identity
        info = pb.MapperInfo(
            name=who.name,
            version=who.version,
            api_version=API_VERSION,
            protocol=who.protocol,
            address=who.socket.encode(),
            state="online",
        )
        request = pb.MapperRegisterRequest(withData=True, mapper=info)
        answer: pb.MapperRegisterResponse = await self._call(self._manager.MapperRegister, request)
        logger.info("registered at edgecore as %s: %d devices", who.name, len(answer.deviceList))
        return answer

    async def _report(self) -> None:
        stream = ReadingStream(self._readings) if self._streams else None
        lost = asyncio.ensure_future(self._link_lost())
        if self.outbox:  # what the connection before could not tell
            self._waiting.set()
        try:
            while True:
                await self._something_to_say(lost)
                while self.outbox:
                    await self._tell_states()
                    await self._tell_observed()
                    stream = await self._tell_readings(stream)
                if stream is not None:
                    stream = await self._finish(stream)
                self._behind.cleared()
                self._backoff.reset()  # not as it registers: it may be refused all that follows
        except EdgeLostError:
            if stream is not None:
                self.outbox.put_back(stream.unanswered())
            raise
        finally:
            lost.cancel()
            if stream is not None:
                stream.close()

    async def _something_to_say(self, lost: asyncio.Future[None]) -> None:
        """Wait for it. Raises: EdgeLostError: edgecore went away; it must be told again who is here."""
        waiting = asyncio.ensure_future(self._waiting.wait())
        try:
            await asyncio.wait((waiting, lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if lost.done():
            raise EdgeLostError("the connection was lost")
        self._waiting.clear()

    async def _link_lost(self) -> None:
        state = self._channel.get_state(try_to_connect=True)
        while state in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.CONNECTING):
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state(try_to_connect=True)

    async def _finish(self, stream: ReadingStream) -> ReadingStream | None:
        """Wait for the answers that are owed, what is not answered may not be stored; return the stream, if any."""
        try:
            problem = await stream.settle()
        except NoStreamsError:  # what was written before its absence was known
            await self._without_streams(stream)
            return None
        self._note_refused(problem)
        return stream

    def _note_refused(self, problem: str) -> None:
        if problem:
            self._refused.failed(problem)
        else:
            self._refused.cleared()

    async def _tell_states(self) -> None:
        for device, state in list(self.outbox.states.items()):
            namespace, _, name = device.partition("/")
            request = pb.ReportDeviceStatesRequest(
                deviceName=name, deviceNamespace=namespace, state=state
            )
            await self._call(self._manager.ReportDeviceStates, request, refusable=True)
            if self.outbox.states.get(device) == state:
                del self.outbox.states[device]

    async def _tell_observed(self) -> None:
        for device, live in list(self.outbox.observed.items()):
            observed = dict(live)  # more may come while this is on its way
            twins = [
                pb.Twin(propertyName=prop, observedDesired=_property(one.value, one.error))
                for prop, one in observed.items()
            ]
            await self._tell_status(device, twins)
            if self.outbox.observed.get(device) == observed:
                del self.outbox.observed[device]

    async def _tell_status(self, device: str, twins: list[pb.Twin]) -> None:
        namespace, _, name = device.partition("/")
        request = pb.ReportDeviceStatusRequest(
            deviceName=name, deviceNamespace=namespace, reportedDevice=pb.DeviceStatus(twins=twins)
        )
        await self._call(self._manager.ReportDeviceStatus, request, refusable=True)

    async def _tell_readings(self, stream: ReadingStream | None) -> ReadingStream | None:
        """Send about a message full; return the stream, None if edgecore has none."""
        readings = self.outbox.take_readings()
        if not readings:
            return stream
        if stream is None:
            await self._tell_newest(readings)
            return None
        try:
            untold_count = self.outbox.untold_count
            self._note_refused(await stream.send(readings, untold_count))
            self.outbox.untold_count -= untold_count  # more may have come meanwhile
        except NoStreamsError:
            await self._without_streams(stream)
            return None
        return stream

    async def _without_streams(self, stream: ReadingStream) -> None:
        """Go on as with KubeEdge's own edgecore: one call per device, newest values."""
        self._streams = False
        await self._tell_newest(stream.unanswered())

    async def _tell_newest(self, readings: Readings) -> None:
        newest: dict[str, dict[str, str]] = {}
        for device, prop, _, value in readings:
            text = value if isinstance(value, str) else text_of_value(value)
            newest.setdefault(device, {})[prop] = text
        try:
            for device, values in newest.items():
                twins = [pb.Twin(propertyName=p, reported=_property(t)) for p, t in values.items()]
                await self._tell_status(device, twins)
        except EdgeLostError:
            self.outbox.put_back(readings)
            raise

    async def _call(self, method: Any, request: Any, *, refusable: bool = False) -> Any:
        try:
            return await method(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as exc:
            lost = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            if refusable and exc.code() not in lost:
                self._refused.failed(exc.details())
                return None
            raise EdgeLostError(f"{exc.code().name}: {exc.details()}") from exc


def _property(value: str, error: str = "") -> pb.TwinProperty:
    return pb.TwinProperty(value=value, metadata={"error": error} if error else {})
