"""Mappers at a real edge: a real store, real sockets, and mappers as processes of their own."""

import asyncio
import itertools
import json
import os
import signal
import sys
from array import array
from contextlib import asynccontextmanager

import grpc
import pytest

from devicemodels.pb import dmi_pb2 as pb
from devicemodels.pb import dmi_pb2_grpc, readings_pb2, readings_pb2_grpc
from edgecore import metrics
from edgecore.devicetwin.twins import DeviceTwin
from edgecore.dmi.server import DmiServer
from edgecore.dmi.supervisor import MapperProcesses
from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit
from edgecore.settings import DmiSettings
from synccore.messages import Lane
from tests.fakes.devices import tombstone, upsert
from tests.fakes.waiting import eventually

pytestmark = pytest.mark.timeout(90)
ID = "default/pump"
VERSIONS = itertools.count(1)


def model(protocol="virtual"):
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "DeviceModel",
        "metadata": {"name": "pump", "namespace": "default"},
        "spec": {
            "protocol": protocol,
            "protocolConfigData": {"seed": 1},
            "properties": [
                {"name": "speed", "type": "INT", "accessMode": "ReadWrite", "maximum": "100"},
                {"name": "flow", "type": "DOUBLE", "accessMode": "ReadOnly"},
                {"name": "fault", "type": "STRING", "accessMode": "ReadWrite"},
            ],
        },
    }


def pump(desired=None, name="pump", uid="u-1", **config):
    signals = {
        "speed": {"signal": "memory"},
        "flow": {"signal": "counter"},
        "fault": {"signal": "fault"},
    }
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": name, "namespace": "default", "uid": uid},
        "spec": {
            "deviceModelRef": {"name": "pump"},
            "nodeName": "edge-1",
            "protocol": {"protocolName": "virtual", "configData": config},
            "properties": [
                {
                    "name": prop,
                    "collectCycle": 50,
                    "visitors": {"protocolName": "virtual", "configData": signal},
                }
                | ({"desired": {"value": desired[prop]}} if prop in (desired or {}) else {})
                for prop, signal in signals.items()
            ],
        },
    }


class SilentBus:
    """No broker."""

    async def receive(self, limit=1024, most_bytes=1 << 20):
        await asyncio.Event().wait()

    def publish(self, topic, payload):
        return False


class Site:
    def __init__(self, store, twins, socket):
        self.store, self.twins, self.socket = store, twins, socket

    async def hold(self, *documents):
        """Have these documents as the cloud's newest."""
        deltas = [upsert(document, version=next(VERSIONS)) for document in documents]
        await self.store.commit(Commit(deltas=deltas))

    async def status(self, name="pump"):
        """Return what waits for the cloud of one device: property -> its twin, and "state"."""
        rows = await self.store.unsent(Lane.TWINS, 0, 1000, 4 << 20)
        newest = [row for row in rows if row.report.key.name == name][-1:]
        body = json.loads(newest[0].report.body)["status"] if newest else {}
        found = {twin["propertyName"]: twin for twin in body.get("twins", ())}
        return found | {"state": body.get("state", "")}

    async def until(self, condition, name="pump"):
        """Wait until `condition(status)` holds."""

        async def holds():
            return condition(await self.status(name))

        await eventually(holds)

    def channel(self):
        return grpc.aio.insecure_channel(f"unix:{self.socket}")


@asynccontextmanager
async def edge(folder, *mappers):
    """Run store, twins and DMI, as edgecore does."""
    socket = folder / "dmi.sock"
    async with (
        MetaStore(folder / "edge.db") as store,
        DeviceTwin(store, SilentBus(), "edge-1") as twins,
        DmiServer(str(socket), store, twins) as server,
        MapperProcesses(DmiSettings(str(socket), tuple(mappers))) as processes,
    ):
        tasks = [asyncio.create_task(part.run()) for part in (twins, server, processes)]
        try:
            yield Site(store, twins, socket)
        finally:
            for task in reversed(tasks):
                task.cancel()
            await asyncio.wait(tasks)


def reported(value, prop="speed"):
    return lambda status: status.get(prop, {}).get("reported", {}).get("value") == value


async def test_a_desired_value_goes_to_the_device_and_what_it_says_comes_back(tmp_path):
    async with edge(tmp_path, "virtual") as site:
        await site.hold(model(), pump({"speed": "40"}))
        await site.until(reported("40"))
        status = await site.status()
        assert status["state"] == "online"
        assert status["speed"]["observedDesired"]["value"] == "40"
        await site.hold(pump({"speed": "55"}))
        await site.until(lambda s: reported("55")(s) and s["speed"]["phase"] == "Applied")


async def test_a_device_made_anew_begins_anew_at_its_mapper_too(tmp_path):
    """Its end and its new beginning come to the edge as one change."""
    async with edge(tmp_path, "virtual") as site:
        await site.hold(model(), pump({"speed": "40"}))
        await site.until(reported("40"))
        await site.hold(pump(uid="u-2"))
        await site.until(reported("0"))


async def test_readings_flow_and_the_devices_come_in_any_order(tmp_path):
    async with edge(tmp_path, "virtual") as site:
        await asyncio.sleep(0)  # the mapper may register before, between or after these
        await site.hold(pump())
        await site.hold(model())
        await site.until(lambda s: float(s.get("flow", {}).get("reported", {}).get("value", 0)) > 3)
        await site.hold(pump(name="second", uid="u-2"))
        await site.until(lambda s: "flow" in s, name="second")


async def test_a_device_that_refuses_a_value_says_so_in_its_twin(tmp_path):
    async with edge(tmp_path, "virtual") as site:
        await site.hold(model(), pump({"fault": "refuse"}))
        await site.until(reported("refuse", "fault"))
        await site.hold(pump({"fault": "refuse", "speed": "7"}))
        await site.until(lambda s: s.get("speed", {}).get("phase") == "Rejected")
        assert (await site.status())["speed"]["message"] == "refuses everything, as it was told to"


async def test_a_wrong_configuration_is_unhealthy_and_disturbs_no_other_device(tmp_path):
    async with edge(tmp_path, "virtual") as site:
        await site.hold(model(), pump(), pump(name="odd", uid="u-2", colour="red"))
        await site.until(lambda s: s["state"] == "unhealthy", name="odd")
        await site.until(lambda s: s["state"] == "online")
        await site.hold(pump(name="odd", uid="u-2"))
        await site.until(lambda s: s["state"] == "online", name="odd")


async def test_a_mapper_that_dies_is_started_again_and_has_its_devices(tmp_path):
    async with edge(tmp_path, "virtual") as site:
        await site.hold(model(), pump({"speed": "40"}))
        await site.until(reported("40"))
        victim = await mapper_pid(site.socket)
        os.kill(victim, signal.SIGKILL)
        await site.hold(pump({"speed": "41"}))
        await site.until(reported("41"))
        assert await mapper_pid(site.socket) != victim


async def test_a_restart_of_the_agent_finds_the_mapper_that_registered_before(tmp_path):
    own = tmp_path / "virtual.sock"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mappers", "run", "virtual",
        "--edge-socket", str(tmp_path / "dmi.sock"), "--socket", str(own),
    )  # fmt: skip
    try:
        async with edge(tmp_path) as site:
            await site.hold(model(), pump({"speed": "40"}))
            await site.until(reported("40"))
        async with edge(tmp_path) as site:
            await site.hold(pump({"speed": "41"}))
            await site.until(reported("41"))
            await site.store.commit(Commit(deltas=[tombstone(upsert(pump()).key)]))

            async def gone():
                return await mapper_devices(own) == []

            await eventually(gone)
    finally:
        process.terminate()
        assert await process.wait() == 0


async def test_a_mapper_of_kubeedges_kind_registers_reports_and_is_told(tmp_path):
    """As its framework does it: unary calls alone, and a mapper's service on a socket of its own."""
    told = asyncio.Queue()

    class Recorder(dmi_pb2_grpc.DeviceMapperServiceServicer):
        async def UpdateDevice(self, request, _context):  # noqa: N802
            told.put_nowait(request.device)
            return pb.UpdateDeviceResponse()

    own = grpc.aio.server()
    dmi_pb2_grpc.add_DeviceMapperServiceServicer_to_server(Recorder(), own)
    own.add_insecure_port(f"unix:{tmp_path}/other.sock")
    await own.start()
    async with edge(tmp_path) as site, site.channel() as channel:
        await site.hold(model(), pump({"speed": "40"}))
        await eventually(lambda: bool(site.twins.outstanding(ID)))
        manager = dmi_pb2_grpc.DeviceManagerServiceStub(channel)
        info = pb.MapperInfo(
            name="other", version="v1", api_version="v1", protocol="virtual",
            address=f"{tmp_path}/other.sock".encode(), state="ok",
        )  # fmt: skip
        answer = await manager.MapperRegister(pb.MapperRegisterRequest(withData=True, mapper=info))
        (device,) = answer.deviceList
        assert (device.namespace, device.name) == ("default", "pump")
        assert {p.name: p.desired.value for p in device.spec.properties} == {
            "speed": "40", "flow": "", "fault": "",
        }  # fmt: skip
        assert "seed" in device.spec.protocol.configData.data  # the model's default
        assert [p.name for p in answer.modelList[0].spec.properties] == ["speed", "flow", "fault"]
        twin = pb.Twin(
            propertyName="speed",
            observedDesired=pb.TwinProperty(value="40"),
            reported=pb.TwinProperty(value="40"),
        )
        status = pb.DeviceStatus(twins=[twin])
        await manager.ReportDeviceStatus(
            pb.ReportDeviceStatusRequest(
                deviceName="pump", deviceNamespace="default", reportedDevice=status
            )
        )
        await manager.ReportDeviceStates(
            pb.ReportDeviceStatesRequest(
                deviceName="pump", deviceNamespace="default", state="online"
            )
        )
        await site.until(lambda s: reported("40")(s) and s["state"] == "online")
        device = await told.get()  # nothing is asked any more
        assert not device.spec.properties[0].HasField("desired")
    await own.stop(None)


@pytest.mark.parametrize(
    ("name", "prop", "value", "code", "words"),
    [
        ("pump", "speed", "101", "INVALID_ARGUMENT", "'101' is more than the maximum of 100"),
        ("pump", "speed", "fast", "INVALID_ARGUMENT", "is not an INT"),
        ("pump", "colour", "1", "INVALID_ARGUMENT", "colour"),
        ("nobody", "speed", "1", "NOT_FOUND", "default/nobody"),
    ],
)
async def test_a_report_that_the_model_forbids_is_refused_at_the_sender(
    tmp_path, name, prop, value, code, words
):
    async with edge(tmp_path) as site, site.channel() as channel:
        await site.hold(model(), pump())
        await eventually(lambda: ID in site.twins.roster.devices)
        manager = dmi_pb2_grpc.DeviceManagerServiceStub(channel)
        twin = pb.Twin(propertyName=prop, reported=pb.TwinProperty(value=value))
        request = pb.ReportDeviceStatusRequest(
            deviceName=name, deviceNamespace="default", reportedDevice=pb.DeviceStatus(twins=[twin])
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await manager.ReportDeviceStatus(request)
        assert caught.value.code().name == code
        assert words in caught.value.details()


async def test_an_empty_registration_is_refused_by_the_name_of_what_is_missing(tmp_path):
    async with edge(tmp_path) as site, site.channel() as channel:
        manager = dmi_pb2_grpc.DeviceManagerServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="mapper.protocol is empty"):
            await manager.MapperRegister(
                pb.MapperRegisterRequest(mapper=pb.MapperInfo(name="m", address=b"/x"))
            )


async def test_a_stream_takes_what_it_may_and_names_what_it_may_not(tmp_path):
    async with edge(tmp_path) as site, site.channel() as channel:
        await site.hold(model(), pump())
        await eventually(lambda: ID in site.twins.roster.devices)
        call = readings_pb2_grpc.ReadingServiceStub(channel).Stream()
        named = [readings_pb2.Series(device=ID, property=p) for p in ("speed", "flow")]
        numbers = [1.0, 2.5, 101.0, 7.0]
        before = metrics.overtaken.values[()]
        message = batch([0, 1, 0, 0], numbers, named)
        message.overtaken = 5
        await call.write(message)
        answer = await call.read()
        assert (answer.taken, answer.refused) == (3, 1)
        assert metrics.overtaken.values[()] - before == 5
        assert "more than the maximum" in answer.reason
        await site.until(lambda s: reported("7")(s) and reported("2.5", "flow")(s))
        await call.write(batch([2], [1.0], []))
        with pytest.raises(grpc.aio.AioRpcError, match="series 2 was not named"):
            await call.read()


async def test_the_socket_is_only_for_its_owner(tmp_path):
    async with edge(tmp_path) as site:
        assert site.socket.stat().st_mode & 0o777 == 0o600


def batch(series, numbers, named):
    return readings_pb2.ReadingBatch(
        named=named,
        series=array("I", series).tobytes(),
        times_ms=array("q", [1_700_000_000_000 + n for n in range(len(series))]).tobytes(),
        numbers=array("d", numbers).tobytes(),
    )


async def mapper_devices(socket):
    """Return the names of the devices that a mapper has, of those that are asked for here."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        stub = dmi_pb2_grpc.DeviceMapperServiceStub(channel)
        try:
            answer = await stub.GetDevice(
                pb.GetDeviceRequest(deviceName="pump", deviceNamespace="default")
            )
        except grpc.aio.AioRpcError as exc:
            return [] if exc.code() is grpc.StatusCode.NOT_FOUND else [str(exc)]
        return [answer.device.name]


async def mapper_pid(edge_socket):
    """Return the process that was started for this socket."""
    found = []

    async def running():
        process = await asyncio.create_subprocess_exec(
            "pgrep", "-f", f"mappers run virtual --edge-socket {edge_socket}",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        found[:] = [int(line) for line in out.split()]
        return bool(found)

    await eventually(running)
    return found[0]


@asynccontextmanager
async def mapper_of(site, folder, answer, name="other", protocol="virtual"):
    """Register a mapper whose service does `answer(what, request)`."""

    class Service(dmi_pb2_grpc.DeviceMapperServiceServicer):
        async def RegisterDevice(self, request, _context):  # noqa: N802
            await answer("register", request.device)
            return pb.RegisterDeviceResponse()

        async def UpdateDevice(self, request, _context):  # noqa: N802
            await answer("update", request.device)
            return pb.UpdateDeviceResponse()

        async def CreateDeviceModel(self, _request, _context):  # noqa: N802
            return pb.CreateDeviceModelResponse()

    own = grpc.aio.server()
    dmi_pb2_grpc.add_DeviceMapperServiceServicer_to_server(Service(), own)
    own.add_insecure_port(f"unix:{folder}/{name}.sock")
    await own.start()
    try:
        async with site.channel() as channel:
            manager = dmi_pb2_grpc.DeviceManagerServiceStub(channel)
            await manager.MapperRegister(registration(name, f"{folder}/{name}.sock", protocol))
            yield manager
    finally:
        await own.stop(None)


def registration(name, address, protocol="virtual"):
    info = pb.MapperInfo(name=name, protocol=protocol, address=str(address).encode())
    return pb.MapperRegisterRequest(mapper=info)


async def test_a_mapper_that_asks_for_nothing_is_told_device_by_device(tmp_path):
    told = asyncio.Queue()

    async def keep(what, device):
        told.put_nowait((what, device.name))

    async with edge(tmp_path) as site:
        await site.hold(model(), pump())
        await eventually(lambda: ID in site.twins.roster.devices)
        async with mapper_of(site, tmp_path, keep):
            assert await told.get() == ("register", "pump")
            await site.hold(pump({"speed": "3"}))
            assert await told.get() == ("update", "pump")


async def test_a_mapper_that_never_answers_holds_up_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr("edgecore.dmi.mapper.CALL_TIMEOUT_S", 0.3)
    asked = []

    async def hang(_what, device):
        asked.append(device.name)
        await asyncio.Event().wait()

    async with edge(tmp_path, "virtual") as site, mapper_of(site, tmp_path, hang):
        await site.hold(model(), pump({"speed": "40"}))
        await site.until(reported("40"))
        await eventually(lambda: len(asked) > 1)  # it is tried again
        await site.hold(pump({"speed": "41"}))
        await site.until(reported("41"))


async def test_a_mapper_that_lies_changes_nothing_and_is_told_so(tmp_path):
    async with edge(tmp_path, "virtual") as site, site.channel() as channel:
        await site.hold(model(), pump({"speed": "40"}))
        await site.until(reported("40"))
        manager = dmi_pb2_grpc.DeviceManagerServiceStub(channel)
        for what, words in [
            (registration("x" * 5000, "/x"), "more than the limit of 4096"),
            (registration("liar", "/" + "x" * 200), "mapper.address is no path"),
        ]:
            with pytest.raises(grpc.aio.AioRpcError, match=words):
                await manager.MapperRegister(what)
        for name, state, words in [
            ("nobody", "online", "default/nobody: is not a device"),
            ("pump", "excellent", "'excellent' is not one of"),
        ]:
            with pytest.raises(grpc.aio.AioRpcError, match=words):
                await manager.ReportDeviceStates(
                    pb.ReportDeviceStatesRequest(
                        deviceName=name, deviceNamespace="default", state=state
                    )
                )
        call = readings_pb2_grpc.ReadingServiceStub(channel).Stream()
        named = [readings_pb2.Series(device="default/nobody", property="speed")]
        named += [readings_pb2.Series(device=ID, property=p) for p in ("nothing", "speed", "flow")]
        await call.write(batch([0, 1, 2, 3], [1.0, 2.0, 3.5, float("nan")], named))
        answer = await call.read()
        assert (answer.taken, answer.refused) == (0, 4)
        assert "default/nobody" in answer.reason
        assert reported("40")(await site.status())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"series": b"\0\0\0"}, "series: 3 bytes are no multiple of 4"),
        ({"times_ms": b"\0" * 16}, "columns differ: 1 series, 2 times, 1 values"),
        ({"times_ms": array("q", [-1]).tobytes()}, "a time is outside 0 to"),
        ({"series": array("I", [9]).tobytes()}, "series 9 was not named: there are 1"),
    ],
)
async def test_a_message_that_makes_no_sense_ends_its_stream_with_the_reason(
    tmp_path, changes, words
):
    async with edge(tmp_path) as site, site.channel() as channel:
        call = readings_pb2_grpc.ReadingServiceStub(channel).Stream()
        message = batch([0], [1.0], [readings_pb2.Series(device=ID, property="speed")])
        for field, value in changes.items():
            setattr(message, field, value)
        await call.write(message)
        with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_mappers_that_are_lost_make_room_for_those_that_come(tmp_path, monkeypatch):
    monkeypatch.setattr("edgecore.dmi.server.MAX_MAPPERS", 2)

    async def ignore(_what, _device):
        return

    async with edge(tmp_path) as site, site.channel() as channel:
        manager = dmi_pb2_grpc.DeviceManagerServiceStub(channel)
        async with mapper_of(site, tmp_path, ignore, "a"), mapper_of(site, tmp_path, ignore, "b"):
            await site.hold(model(), pump())
            with pytest.raises(grpc.aio.AioRpcError, match="2 mappers are registered"):
                await manager.MapperRegister(registration("c", tmp_path / "c.sock"))
        await site.hold(pump({"speed": "3"}))  # nobody answers any more

        async def taken():
            try:
                await manager.MapperRegister(registration("c", tmp_path / "c.sock"))
            except grpc.aio.AioRpcError:
                return False
            return True

        await eventually(taken)
        assert len(await site.store.local("dmi")) == 2


async def test_a_flood_of_one_mapper_leaves_the_others_heard_and_the_agent_alive(tmp_path):
    """Four streams as fast as they go, wrong and right values, while another device is commanded."""

    async def flood():
        async with site.channel() as channel:
            call = readings_pb2_grpc.ReadingServiceStub(channel).Stream()
            named = [readings_pb2.Series(device=ID, property="speed")]
            while not stop.is_set():
                await call.write(batch([0] * 4096, [7.0, 1e9] * 2048, named))
                named = []
                answer = await call.read()
                assert (answer.taken, answer.refused) == (2048, 2048)

    stop = asyncio.Event()
    async with edge(tmp_path, "virtual") as site:
        await site.hold(model(), pump(), pump(name="quiet", uid="u-2"))
        await site.until(lambda s: s["state"] == "online", name="quiet")
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(flood())
            for number in range(5):
                await site.hold(pump({"speed": str(number)}, name="quiet", uid="u-2"))
                await site.until(reported(str(number)), name="quiet")
            stop.set()


async def test_texts_and_numbers_of_a_stream_arrive_as_what_their_model_says(tmp_path):
    async with edge(tmp_path) as site, site.channel() as channel:
        await site.hold(model(), pump())
        await eventually(lambda: ID in site.twins.roster.devices)
        call = readings_pb2_grpc.ReadingServiceStub(channel).Stream()
        named = [readings_pb2.Series(device=ID, property=p) for p in ("speed", "flow", "fault")]
        message = batch([0, 1, 2, 2], [], named)
        message.texts.extend(["41", "2.50", "über", "x" * 70_000])
        await call.write(message)
        answer = await call.read()
        assert (answer.taken, answer.refused) == (3, 1)
        assert "70000 bytes" in answer.reason
        await site.until(
            lambda s: (
                reported("41")(s) and reported("2.50", "flow")(s) and reported("über", "fault")(s)
            )
        )
        await call.write(batch([0, 1, 0, 1], [7.0, 3.0, 8.0, 3.5], []))
        answer = await call.read()
        assert (answer.taken, answer.refused) == (4, 0)
        await site.until(lambda s: reported("8")(s) and reported("3.5", "flow")(s))


async def test_a_process_that_ends_at_once_is_started_again_and_ends_with_the_agent(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("edgecore.dmi.supervisor.BACKOFF_S", (0.01, 0.02))
    settings = DmiSettings(str(tmp_path / "dmi.sock"), ("zigbee", "virtual"))
    async with MapperProcesses(settings) as processes:
        task = asyncio.create_task(processes.run())
        pid = await mapper_pid(tmp_path / "dmi.sock")
        await eventually(lambda: "zigbee" in caplog.text)
        assert "its command line or driver is wrong" in caplog.text
        task.cancel()
        await asyncio.wait([task])
    assert not alive(pid)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_an_agent_without_streams_is_told_the_newest_value_of_each_property(tmp_path):
    """KubeEdge's own edgecore: the two services of DMI and no more."""
    from mappers.sdk.edge import EdgeClient, Identity

    told = {}

    class Manager(dmi_pb2_grpc.DeviceManagerServiceServicer):
        async def MapperRegister(self, _request, _context):  # noqa: N802
            return pb.MapperRegisterResponse()

        async def ReportDeviceStatus(self, request, _context):  # noqa: N802
            for twin in request.reportedDevice.twins:
                told[request.deviceName, twin.propertyName] = twin.reported.value
            return pb.ReportDeviceStatusResponse()

    server = grpc.aio.server()
    dmi_pb2_grpc.add_DeviceManagerServiceServicer_to_server(Manager(), server)
    server.add_insecure_port(f"unix:{tmp_path}/dmi.sock")
    await server.start()
    identity = Identity("m", "virtual", "1", str(tmp_path / "own.sock"))
    async with EdgeClient(str(tmp_path / "dmi.sock"), identity) as client:
        task = asyncio.create_task(client.run(lambda _: None))
        for number in range(3):
            client.read(ID, "speed", str(number))
        await eventually(lambda: told.get(("pump", "speed")) == "2")
        client.read(ID, "speed", "9")
        await eventually(lambda: told.get(("pump", "speed")) == "9")
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    await server.stop(None)
