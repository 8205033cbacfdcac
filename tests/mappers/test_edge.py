"""The mapper's side of DMI, against a gRPC server that answers when it is told to."""

import asyncio
import contextlib
from array import array

import grpc
import pytest

from devicemodels.pb import dmi_pb2 as pb
from devicemodels.pb import dmi_pb2_grpc, readings_pb2, readings_pb2_grpc
from mappers.sdk.edge import EdgeClient, Identity
from mappers.sdk.outbox import MAX_WAITING
from tests.fakes.waiting import eventually

pytestmark = pytest.mark.timeout(90)
ID = "default/one"


class Manager(dmi_pb2_grpc.DeviceManagerServiceServicer):
    """edgecore, as far as a mapper sees it: holds calls back while `hold` is set, and has no streams."""

    def __init__(self):
        self.observed, self.states, self.registered = [], [], 0
        self.go = asyncio.Event()
        self.go.set()
        self.calls = 0

    async def MapperRegister(self, _request, _context):  # noqa: N802
        self.registered += 1
        return pb.MapperRegisterResponse()

    async def ReportDeviceStatus(self, request, _context):  # noqa: N802
        self.calls += 1
        await self.go.wait()
        for twin in request.reportedDevice.twins:
            error = twin.observedDesired.metadata.get("error", "")
            self.observed.append((twin.propertyName, twin.observedDesired.value, error))
        return pb.ReportDeviceStatusResponse()

    async def ReportDeviceStates(self, request, _context):  # noqa: N802
        self.states.append(request.state)
        return pb.ReportDeviceStatesResponse()


@contextlib.asynccontextmanager
async def serving(manager, socket, readings=None):
    server = grpc.aio.server()
    if readings is not None:
        readings_pb2_grpc.add_ReadingServiceServicer_to_server(readings, server)
    dmi_pb2_grpc.add_DeviceManagerServiceServicer_to_server(manager, server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def client_of(socket):
    async with EdgeClient(str(socket), Identity("m", "line", "1", "/nowhere")) as client:
        task = asyncio.create_task(client.run(lambda _: None))
        try:
            yield client
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()


async def test_what_is_observed_while_a_report_is_on_its_way_is_told_too(tmp_path):
    manager = Manager()
    async with serving(manager, tmp_path / "s"), client_of(tmp_path / "s") as client:
        manager.go.clear()
        client.observe(ID, "a", "1")
        await eventually(lambda: manager.calls == 1)
        client.observe(ID, "b", "2", "too bright")
        manager.go.set()
        await eventually(lambda: ("b", "2", "too bright") in manager.observed)
        await eventually(lambda: not client.outbox)


async def test_what_could_not_be_told_is_told_to_the_next_agent_without_a_new_cause(tmp_path):
    before, after = Manager(), Manager()
    async with client_of(tmp_path / "s") as client:
        async with serving(before, tmp_path / "s"):
            before.go.clear()
            client.state(ID, "online")
            client.observe(ID, "a", "1")
            await eventually(lambda: before.calls == 1)
        async with serving(after, tmp_path / "s"):
            await eventually(lambda: after.observed == [("a", "1", "")])
            assert (before.observed, after.registered) == ([], 1)
    assert before.states == ["online"]


async def test_a_device_that_is_forgotten_is_not_told_of(tmp_path):
    manager = Manager()
    async with client_of(tmp_path / "s") as client:
        client.observe("default/gone", "a", "1")
        client.state("default/gone", "online")
        client.read("default/gone", "a", "1")
        client.forget("default/gone")
        client.state(ID, "online")
        async with serving(manager, tmp_path / "s"):
            await eventually(lambda: manager.states == ["online"])
    assert manager.observed == []


class Readings(readings_pb2_grpc.ReadingServiceServicer):
    """edgecore's stream of readings: answers a batch once it may."""

    def __init__(self):
        self.batches, self.go = [], asyncio.Event()

    async def Stream(self, batches, _context):  # noqa: N802
        async for batch in batches:
            await self.go.wait()
            self.batches.append(batch)
            yield readings_pb2.BatchTaken(taken=len(batch.series) // 4)


async def test_readings_that_were_given_up_are_said_and_told_to_the_agent(tmp_path, caplog):
    caplog.set_level("INFO")
    manager, readings = Manager(), Readings()
    async with serving(manager, tmp_path / "s", readings), client_of(tmp_path / "s") as client:
        for number in range(3 * MAX_WAITING):
            client.read(ID, f"p{number % 2}", float(number))
        given_up = client.outbox.overtaken_count
        assert given_up > MAX_WAITING
        readings.go.set()
        await eventually(lambda: not client.outbox)
        await eventually(lambda: "works again" in caplog.text)
        told = [n for batch in readings.batches for n in array("d", batch.numbers)]
        assert told[-1] == 3 * MAX_WAITING - 1
        assert sum(batch.overtaken for batch in readings.batches) == given_up
        assert len(told) + given_up == 3 * MAX_WAITING
        assert client.outbox.untold_count == 0
    behind = [r for r in caplog.records if "does not keep up" in r.getMessage()]
    assert [r.levelname for r in behind] == ["WARNING", "INFO"]
