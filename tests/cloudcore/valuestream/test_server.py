"""The value stream over real gRPC with real certificates: who sees what, at which pace, and what is kept."""

import asyncio
import json
from array import array
from contextlib import asynccontextmanager

import grpc
import pytest

from cloudcore.kube.errors import KubeUnreachableError
from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import DEVICE_MODELS, DEVICES, read_object
from cloudcore.samples import SampleFanout
from cloudcore.seams import SampleOrigin
from cloudcore.settings import HubSettings, MqttSinkSettings, ValueSettings
from cloudcore.valuestream.access import Gate
from cloudcore.valuestream.history import MAX_OF_SERIES, History
from cloudcore.valuestream.messages import MessageHub
from cloudcore.valuestream.mqtt import MqttSink, messages
from cloudcore.valuestream.seen import LastSeen
from cloudcore.valuestream.server import ValueServer
from cloudcore.valuestream.subscription import MAX_WAITING, Subscription, Wanted
from corekit.errors import ConfigError
from corekit.pki import Authority, KeyPair
from synccore.pb import values_pb2, values_pb2_grpc
from synccore.series import Readings, Series
from tests.fakes.devices import MODEL, lamp
from tests.fakes.mqtt import free_port, mosquitto

pytestmark = pytest.mark.timeout(30)
ORIGIN = SampleOrigin("edge-1", b"x" * 16, 0)
NOW_S = 1_767_225_600.0
LAMP, OTHER = "default/lamp-01", "default/lamp-02"


class Reviews:
    """The API server's answers: only these (user, verb, namespace, name)."""

    def __init__(self):
        self.allowed, self.down, self.asked = set(), False, []

    async def post(self, path, body):
        assert path == "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        if self.down:
            raise KubeUnreachableError(0, "Down", "no answer")
        spec = json.loads(body)["spec"]
        self.asked.append(spec)
        what = spec["resourceAttributes"]
        assert (what["group"], what["resource"]) == ("devices.kubeedge.io", "devices")
        key = (spec["user"], what["verb"], what["namespace"], what["name"])
        return json.dumps({"status": {"allowed": key in self.allowed}}).encode()


class Site:
    def __init__(self, folder):
        self.folder, self.reviews = folder, Reviews()
        self.devices, self.models = Informer(DEVICES), Informer(DEVICE_MODELS)
        self.seen, self.messages = LastSeen(self.devices, lambda: NOW_S), MessageHub()
        self.fanout = SampleFanout(self.seen)
        self.history = History(self.devices, self.models, lambda: NOW_S)
        self.authority = Authority(folder, "test")
        self.port = free_port()

    def pair(self, name, common_name, **more):
        pair = KeyPair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return self.authority.issue(pair, common_name, **more)

    @asynccontextmanager
    async def stub(self, user, groups=("ops",), authority=None):
        issuer = authority or self.authority
        pair = KeyPair(
            issuer.pair.cert_file.parent / "u.crt", issuer.pair.cert_file.parent / "u.key"
        )
        pair = issuer.issue(pair, user, organizations=groups)
        credentials = grpc.ssl_channel_credentials(
            self.authority.pair.cert_file.read_bytes(),
            pair.key_file.read_bytes(),
            pair.cert_file.read_bytes(),
        )
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials) as channel:
            yield values_pb2_grpc.ValuesStub(channel)

    async def say(self, *values, device=LAMP, prop="temperature"):
        await self.fanout.take(ORIGIN, readings(*values, device=device, prop=prop))


def readings(*values, device=LAMP, prop="temperature"):
    times = array("q", [int(NOW_S * 1000) + n for n in range(len(values))])
    return Readings([Series(device, prop)], array("I", [0] * len(values)), times, list(values))


@asynccontextmanager
async def site(folder):
    made = Site(folder)
    server = made.pair("server", "cloudcore", hosts=("127.0.0.1",))
    settings = ValueSettings(address=f"127.0.0.1:{made.port}")
    hub = HubSettings(
        cert_file=str(server.cert_file),
        key_file=str(server.key_file),
        client_ca_file=str(made.authority.pair.cert_file),
    )
    made.server = component = ValueServer(
        settings,
        hub,
        fanout=made.fanout,
        history=made.history,
        gate=Gate(made.reviews),
        messages=made.messages,
        seen=made.seen,
    )
    async with component:
        task = asyncio.create_task(component.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.wait([task])


def device_object(uid="u-1"):
    """The lamp as the API server has it."""
    return read_object("Device", json.dumps(lamp(uid=uid)).encode())


async def subscribed(made, count=2):
    while len(made.fanout._subscribers) < count:
        await asyncio.sleep(0.01)


async def test_a_user_who_may_watch_a_device_gets_every_value_of_it_and_of_no_other(tmp_path):
    async with site(tmp_path) as made, made.stub("ann") as stub:
        made.reviews.allowed.add(("ann", "watch", "default", "lamp-01"))
        call = stub.Watch(values_pb2.WatchRequest(devices=[LAMP]))
        first = asyncio.ensure_future(call.read())
        await subscribed(made)
        await made.say(9.0, device=OTHER)
        await made.say(1.5, 2, True, "on")
        batch = await first
        seen = [(v.device, v.WhichOneof("value")) for v in batch.values]
        assert seen == [(LAMP, kind) for kind in ("number", "integer", "flag", "text")]
        assert made.reviews.asked[0]["groups"] == ["ops", "system:authenticated"]


@pytest.mark.parametrize(
    ("devices", "code"),
    [
        ([LAMP], "PERMISSION_DENIED"),
        (["default/"], "PERMISSION_DENIED"),
        (["/"], "PERMISSION_DENIED"),
        (["lamp-01"], "INVALID_ARGUMENT"),
        ([], "INVALID_ARGUMENT"),
        ([LAMP] * 101, "INVALID_ARGUMENT"),
    ],
)
async def test_nothing_is_shown_that_was_not_allowed(tmp_path, devices, code):
    async with site(tmp_path) as made, made.stub("eve") as stub:
        made.reviews.allowed.add(("ann", "watch", "default", "lamp-01"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Watch(values_pb2.WatchRequest(devices=devices)).read()
        assert caught.value.code().name == code


async def test_an_api_server_that_does_not_answer_means_no(tmp_path):
    async with site(tmp_path) as made, made.stub("ann") as stub:
        made.reviews.allowed.add(("ann", "watch", "default", "lamp-01"))
        made.reviews.down = True
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Watch(values_pb2.WatchRequest(devices=[LAMP])).read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_certificate_of_somebody_else_does_not_connect(tmp_path):
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "stranger")
    async with site(tmp_path) as made, made.stub("ann", authority=stranger) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Watch(values_pb2.WatchRequest(devices=[LAMP]), timeout=5).read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_values_are_kept_as_long_as_the_device_says_and_read_by_who_may_get_it(tmp_path):
    document = lamp()
    document["spec"]["properties"][2]["history"] = {"keepSeconds": 60}
    async with site(tmp_path) as made, made.stub("ann") as stub:
        made.devices.upsert(read_object("Device", json.dumps(document).encode()))
        made.models.upsert(read_object("DeviceModel", json.dumps(MODEL).encode()))
        made.reviews.allowed.add(("ann", "get", "default", "lamp-01"))
        await made.say(1.0, 2.0, 3.0)
        await made.say("5", prop="brightness")
        request = values_pb2.HistoryRequest(
            device=LAMP, property="temperature", since_ms=int(NOW_S * 1000) + 1
        )
        batches = [batch async for batch in stub.History(request)]
        assert [v.number for batch in batches for v in batch.values] == [2.0, 3.0]
        request = values_pb2.HistoryRequest(device=LAMP, property="brightness")
        assert [batch async for batch in stub.History(request)] == []


async def test_history_is_bounded_and_forgets_what_is_too_old(tmp_path):
    made = Site(tmp_path)
    document = lamp()
    document["spec"]["properties"][2]["history"] = {"keepSeconds": 60}
    made.devices.upsert(read_object("Device", json.dumps(document).encode()))
    old = Readings(
        [Series(LAMP, "temperature")], array("I", [0]), array("q", [int(NOW_S - 61) * 1000]), [0.5]
    )
    await made.history.take(ORIGIN, old)
    assert list(made.history.read(LAMP, "temperature", 0)) == []
    for _ in range(3):
        await made.history.take(ORIGIN, readings(*map(float, range(MAX_OF_SERIES // 2))))
    assert len(list(made.history.read(LAMP, "temperature", 0))) == MAX_OF_SERIES


class Counted:
    """An informer's cache that counts how often it is asked."""

    def __init__(self, cache):
        self.cache, self.asked = cache, 0

    def get(self, key):
        self.asked += 1
        return self.cache.get(key)


async def test_a_device_is_looked_up_once_for_all_of_its_properties(tmp_path):
    made = Site(tmp_path)
    document, names = lamp(), [f"p{number}" for number in range(500)]
    kept = {"history": {"keepSeconds": 60}}
    document["spec"]["properties"] = [{"name": name} | kept for name in names]
    made.devices.upsert(read_object("Device", json.dumps(document).encode()))
    devices = Counted(made.devices)
    history = History(devices, made.models, lambda: NOW_S)
    count = len(names)
    block = Readings(
        [Series(LAMP, name) for name in names],
        array("I", range(count)),
        array("q", [int(NOW_S * 1000)] * count),
        [0.5] * count,
    )
    await history.take(ORIGIN, block)
    assert devices.asked == 1
    assert all(list(history.read(LAMP, name, 0)) for name in names)


async def test_the_devices_own_history_counts_before_its_models_also_when_it_is_none(tmp_path):
    made = Site(tmp_path)
    model, document = json.loads(json.dumps(MODEL)), lamp()
    for prop in model["spec"]["properties"]:
        prop["history"] = {"keepSeconds": 60}
    names = [prop["name"] for prop in document["spec"]["properties"]]
    document["spec"]["properties"][0]["history"] = {"keepSeconds": 0}
    made.devices.upsert(read_object("Device", json.dumps(document).encode()))
    made.models.upsert(read_object("DeviceModel", json.dumps(model).encode()))
    for name in names:
        one = Readings([Series(LAMP, name)], array("I", [0]), array("q", [int(NOW_S * 1000)]), [1])
        await made.history.take(ORIGIN, one)
    kept = [bool(list(made.history.read(LAMP, name, 0))) for name in names]
    assert kept == [False] + [True] * (len(names) - 1)


async def test_a_reader_that_is_too_slow_is_told_how_much_it_missed():
    slow = Subscription(Wanted([LAMP]))
    for number in range(MAX_WAITING + 2):
        await slow.take(ORIGIN, readings(number, number))
    batches = await slow.batches()
    assert (batches[0].missed, sum(len(b.values) for b in batches)) == (4, 2 * MAX_WAITING)


def test_one_message_carries_a_block_of_a_device():
    ((topic, payload),) = messages("a/b", readings(1.5, True))
    start = int(NOW_S * 1000)
    assert topic == "a/b/default/lamp-01"
    assert json.loads(payload) == {
        "values": [["temperature", start, 1.5], ["temperature", start + 1, True]]
    }


async def test_the_sink_publishes_what_comes_in_once_its_broker_is_there(tmp_path):
    import aiomqtt

    port, fanout = free_port(), SampleFanout()
    sink = MqttSink(MqttSinkSettings(url=f"mqtt://127.0.0.1:{port}"), fanout)
    async with sink:
        task = asyncio.create_task(sink.run())
        await fanout.take(ORIGIN, readings(4.5))
        await asyncio.sleep(0.1)
        async with mosquitto(port, tmp_path), aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe("armadillo/values/#")
            while True:
                await fanout.take(ORIGIN, readings(4.5))
                try:
                    async with asyncio.timeout(0.2):
                        message = await anext(client.messages)
                        break
                except TimeoutError:
                    continue
            assert json.loads(message.payload)["values"][0][2] == 4.5
            task.cancel()
            await asyncio.wait([task])


def test_a_sink_that_is_no_broker_is_refused():
    with pytest.raises(ConfigError):
        MqttSink(MqttSinkSettings(url="http://x"), SampleFanout())
