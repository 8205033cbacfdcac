"""The value stream over real gRPC with real certificates: who sees what, at which pace, and what is kept."""

import asyncio
import json
from array import array
from contextlib import asynccontextmanager

import grpc
import pytest

from armadillo.credentials import Credential
from armadillo.valueclient import Access, watch
from cloudcore.history.keeper import History
from cloudcore.kube.errors import KubeUnreachableError
from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import DEVICE_MODELS, DEVICES, read_object
from cloudcore.kube.reviews import ACCESS_REVIEWS, TOKEN_REVIEWS
from cloudcore.samples import SampleFanout
from cloudcore.seams import SampleOrigin
from cloudcore.settings import HubSettings, MqttSinkSettings, ValueSettings
from cloudcore.valuestream.access import Gate
from cloudcore.valuestream.messages import MessageHub
from cloudcore.valuestream.mqtt import MqttSink, messages
from cloudcore.valuestream.seen import LastSeen
from cloudcore.valuestream.server import ValueServer
from cloudcore.valuestream.subscription import (
    MAX_BATCH_BYTES,
    MAX_VALUES,
    MAX_WAITING_BYTES,
    Subscription,
    Wanted,
)
from corekit.errors import ConfigError
from corekit.pki import Authority, KeyPair
from synccore.pb import values_pb2, values_pb2_grpc
from synccore.series import Readings, Series
from tests.fakes.devices import MODEL, lamp
from tests.fakes.mqtt import free_port, mosquitto
from tests.fakes.tcp_proxy import TcpProxy

pytestmark = pytest.mark.timeout(30)
ORIGIN = SampleOrigin("edge-1", b"x" * 16, 0)
NOW_S = 1_767_225_600.0
LAMP, OTHER = "default/lamp-01", "default/lamp-02"


class Reviews:
    """The API server's answers: only these (user, verb, namespace, name), and who holds which token."""

    def __init__(self):
        self.allowed, self.down, self.asked = set(), False, []
        self.tokens, self.tokens_asked = {}, []

    async def post(self, path, body):
        if self.down:
            raise KubeUnreachableError(0, "Down", "no answer")
        spec = json.loads(body)["spec"]
        if path == TOKEN_REVIEWS:
            self.tokens_asked.append(spec["token"])
            user = self.tokens.get(spec["token"])
            status = {"authenticated": True, "user": user} if user else {"user": {}, "error": "bad"}
            return json.dumps({"status": status}).encode()
        assert path == ACCESS_REVIEWS
        self.asked.append(spec)
        what = spec["resourceAttributes"]
        if what["resource"] == "nodes":
            assert (what["group"], what["subresource"]) == ("", "messages")
            key = (spec["user"], what["verb"], "nodes/messages", what["name"])
            return json.dumps({"status": {"allowed": key in self.allowed}}).encode()
        assert (what["group"], what["resource"]) == ("devices.kubeedge.io", "devices")
        key = (spec["user"], what["verb"], what["namespace"], what["name"])
        return json.dumps({"status": {"allowed": key in self.allowed}}).encode()


class Site:
    def __init__(self, folder):
        self.folder, self.reviews = folder, Reviews()
        self.devices, self.models = Informer(DEVICES), Informer(DEVICE_MODELS)
        self.seen, self.messages = LastSeen(self.devices, lambda: NOW_S), MessageHub()
        self.fanout = SampleFanout(self.seen.note)
        self.history = History(
            ValueSettings(),
            self.fanout,
            devices=self.devices,
            models=self.models,
            clock=lambda: NOW_S,
        )
        self.authority = Authority(folder, "test")
        self.port, self.token_port = free_port(), free_port()

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

    @asynccontextmanager
    async def token_stub(self):
        ca = self.authority.pair.cert_file.read_bytes()
        credentials = grpc.ssl_channel_credentials(ca)
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.token_port}", credentials) as channel:
            yield values_pb2_grpc.ValuesStub(channel)

    async def say(self, *values, device=LAMP, prop="temperature"):
        await self.fanout.take(ORIGIN, readings(*values, device=device, prop=prop))


def readings(*values, device=LAMP, prop="temperature"):
    times = array("q", [int(NOW_S * 1000) + n for n in range(len(values))])
    return Readings([Series(device, prop)], array("I", [0] * len(values)), times, list(values))


def device_object(uid="u-1"):
    """The lamp as the API server has it."""
    return read_object("Device", json.dumps(lamp(uid=uid)).encode())


@asynccontextmanager
async def site(folder):
    made = Site(folder)
    server = made.pair("server", "cloudcore", hosts=("127.0.0.1",))
    settings = ValueSettings(
        address=f"127.0.0.1:{made.port}", token_address=f"127.0.0.1:{made.token_port}"
    )
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
    async with made.history, component:
        task = asyncio.create_task(component.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.wait([task])


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


async def test_a_reader_that_is_too_slow_is_told_how_much_it_missed_of_what_it_may_see():
    slow, taken = Subscription(Wanted([LAMP])), 0
    mixed = Readings(
        [Series(LAMP, "t"), Series(OTHER, "t")],
        array("I", [0, 1, 1]),
        array("q", [0, 1, 2]),
        ["x" * 1000, 2.0, 3.0],
    )
    while not slow._missed:
        await slow.take(ORIGIN, mixed)
        taken += 1
    assert taken < MAX_WAITING_BYTES // 1000
    first = list(await slow.batches())
    assert (first[0].missed, [v.device for v in first[0].values]) == (1, [LAMP])
    rest = [list(await slow.batches()) for _ in range(taken - 2)]
    assert all(batch.missed == 0 for batches in rest for batch in batches)


async def test_a_program_that_does_not_read_holds_up_nobody_and_is_told_what_it_missed(tmp_path):
    async with site(tmp_path) as made, made.stub("ann") as idle, made.stub("ann") as quick:
        made.reviews.allowed.add(("ann", "watch", "default", "lamp-01"))
        request = values_pb2.WatchRequest(devices=[LAMP])
        slow, fast = idle.Watch(request), quick.Watch(request)
        await asyncio.gather(slow.initial_metadata(), fast.initial_metadata())
        block, block_count, fast_count = readings(*["x" * 1000] * 500), 100, 0
        for _ in range(block_count):  # 50 MB: more than gRPC and the server hold for one
            await made.fanout.take(ORIGIN, block)
            fast_count += 500
            while fast_count:
                fast_count -= len((await fast.read()).values)
        slow_count = missed_count = 0
        while slow_count + missed_count < 500 * block_count:
            batch = await slow.read()
            slow_count, missed_count = slow_count + len(batch.values), missed_count + batch.missed
        assert (slow_count + missed_count, missed_count > 0) == (500 * block_count, True)


async def test_no_message_is_larger_than_a_reader_takes():
    reader = Subscription(Wanted([LAMP]))
    await reader.take(ORIGIN, readings(*["\u20ac" * 340] * 20_000))
    batches = list(await reader.batches())
    assert sum(len(batch.values) for batch in batches) == 20_000
    assert all(batch.ByteSize() < 2 * MAX_BATCH_BYTES for batch in batches)
    await reader.take(ORIGIN, readings(*[0.5] * (2 * MAX_VALUES + 1)))
    assert [len(batch.values) for batch in await reader.batches()] == [MAX_VALUES, MAX_VALUES, 1]


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


async def test_a_token_of_the_cluster_sees_what_its_holder_may_and_nothing_else(tmp_path):
    async with site(tmp_path) as made, made.token_stub() as stub:
        made.reviews.tokens["good"] = {
            "username": "system:serviceaccount:ops:reader",
            "uid": "u1",
            "groups": ["system:serviceaccounts"],
            "extra": {"a": ["b"]},
        }
        holder = made.reviews.tokens["good"]["username"]
        made.reviews.allowed.add((holder, "watch", "default", "lamp-01"))
        request = values_pb2.WatchRequest(devices=[LAMP])
        call = stub.Watch(request, metadata=bearer("good"))
        await call.initial_metadata()
        await made.say(1.5)
        assert [v.number for v in (await call.read()).values] == [1.5]
        asked = made.reviews.asked[0]
        assert (asked["uid"], asked["groups"], asked["extra"]) == (
            "u1",
            ["system:serviceaccounts"],
            {"a": ["b"]},
        )
        other = values_pb2.WatchRequest(devices=[OTHER])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Watch(other, metadata=bearer("good")).read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        bearer("bad"),
        bearer(""),
        bearer("x" * 20_000),
        (("authorization", "Basic good"),),
        bearer("good") + bearer("good"),
    ],
)
async def test_who_shows_no_token_that_the_cluster_knows_is_nobody(tmp_path, metadata):
    async with site(tmp_path) as made, made.token_stub() as stub:
        made.reviews.tokens["good"] = {"username": "ann"}
        made.reviews.allowed |= {(user, "watch", "default", "lamp-01") for user in ("ann", "")}
        request = values_pb2.WatchRequest(devices=[LAMP])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Watch(request, metadata=metadata, timeout=10).read()
        # More than 8 KiB of headers gRPC itself refuses.
        assert caught.value.code().name in ("UNAUTHENTICATED", "RESOURCE_EXHAUSTED")


async def test_a_token_is_asked_about_once_however_often_it_is_shown(tmp_path):
    async with site(tmp_path) as made, made.token_stub() as stub:
        made.reviews.tokens["good"] = {"username": "ann"}
        for _ in range(3):
            for token in ("good", "bad"):
                request = values_pb2.WatchRequest(devices=[LAMP])
                with pytest.raises(grpc.aio.AioRpcError):
                    await stub.Watch(request, metadata=bearer(token)).read()
        assert made.reviews.tokens_asked == ["good", "bad"]
        assert len(made.reviews.asked) == 1


async def test_without_a_certificate_nothing_is_served_where_one_is_asked_for(tmp_path):
    async with site(tmp_path) as made:
        made.reviews.tokens["good"] = {"username": "ann"}
        made.reviews.allowed.add(("ann", "watch", "default", "lamp-01"))
        made.token_port = made.port
        async with made.token_stub() as stub:
            request = values_pb2.WatchRequest(devices=[LAMP])
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Watch(request, metadata=bearer("good"), timeout=5).read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_right_that_is_taken_away_ends_a_stream(tmp_path, monkeypatch):
    monkeypatch.setattr("cloudcore.valuestream.server.RECHECK_S", 0.2)
    monkeypatch.setattr("cloudcore.valuestream.access.ALLOWED_TTL_S", 0.1)
    async with site(tmp_path) as made, made.token_stub() as stub:
        made.reviews.tokens["good"] = {"username": "ann"}
        made.reviews.allowed.add(("ann", "watch", "default", "lamp-01"))
        call = stub.Watch(values_pb2.WatchRequest(devices=[LAMP]), metadata=bearer("good"))
        await call.initial_metadata()
        made.reviews.tokens.clear()  # it has run out
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_what_a_reader_missed_while_it_was_cut_off_is_in_the_history(tmp_path):
    document = lamp()
    document["spec"]["properties"][2]["history"] = {"keepSeconds": 60}
    async with site(tmp_path) as made, made.stub("ann") as stub:
        made.devices.upsert(read_object("Device", json.dumps(document).encode()))
        made.reviews.allowed |= {("ann", verb, "default", "lamp-01") for verb in ("watch", "get")}
        seen = []

        async def said(*numbers):
            for number in numbers:
                times = array("q", [int(NOW_S * 1000) - 1000 + number])
                block = Readings(
                    [Series(LAMP, "temperature")], array("I", [0]), times, [float(number)]
                )
                await made.fanout.take(ORIGIN, block)

        request = values_pb2.WatchRequest(devices=[LAMP])
        call = stub.Watch(request)
        await call.initial_metadata()
        await said(1, 2)
        while len(seen) < 2:
            seen += (await call.read()).values
        call.cancel()
        await said(3, 4)
        again = stub.Watch(request)
        await again.initial_metadata()
        await said(5)
        back = values_pb2.HistoryRequest(
            device=LAMP, property="temperature", since_ms=seen[-1].time_ms + 1
        )
        seen += [v for batch in [b async for b in stub.History(back)] for v in batch.values]
        seen += (await again.read()).values
        # What came between the two calls is in both: (property, time) tells.
        assert sorted({(v.time_ms, v.number) for v in seen}) == [
            (int(NOW_S * 1000) - 1000 + n, float(n)) for n in (1, 2, 3, 4, 5)
        ]


async def test_a_watch_by_kubectl_edge_begins_with_what_is_kept_since_it_was_cut_off(tmp_path):
    document = lamp()
    document["spec"]["properties"][2]["history"] = {"keepSeconds": 60}
    async with site(tmp_path) as made, made.stub("ann"):  # which makes its certificate
        made.devices.upsert(read_object("Device", json.dumps(document).encode()))
        made.reviews.allowed |= {("ann", verb, "default", "lamp-01") for verb in ("watch", "get")}
        await made.say(0.0, 1.0, 2.0)
        pair = [made.authority.pair.cert_file.parent / name for name in ("u.crt", "u.key")]
        shown = Credential(*(path.read_bytes() for path in pair))
        ca = made.authority.pair.cert_file.read_bytes()
        access = Access(f"127.0.0.1:{made.port}", ca, shown)
        last = {(LAMP, "temperature"): int(NOW_S * 1000)}
        watching = watch(access, [LAMP], last)
        seen = [await asyncio.to_thread(next, watching) for _ in range(2)]
        # Of the times that were told from history, 1 and 2, nothing comes a second time.
        await made.say(0.0, 1.0, 2.0, 3.0)
        seen += [await asyncio.to_thread(next, watching) for _ in range(2)]
        assert [(r.value, r.kept) for r in seen] == [
            (1.0, True), (2.0, True), (0.0, False), (3.0, False),
        ]  # fmt: skip
        await asyncio.to_thread(watching.close)


async def test_the_newest_values_and_a_span_can_be_asked_for(tmp_path):
    document = lamp()
    document["spec"]["properties"][2]["history"] = {"keepSeconds": 60}
    async with site(tmp_path) as made, made.stub("ann") as stub:
        made.devices.upsert(read_object("Device", json.dumps(document).encode()))
        made.reviews.allowed.add(("ann", "get", "default", "lamp-01"))
        await made.say(*map(float, range(10)))

        async def asked(**more):
            request = values_pb2.HistoryRequest(device=LAMP, property="temperature", **more)
            return [v.number async for batch in stub.History(request) for v in batch.values]

        assert await asked(newest_count=3) == [7.0, 8.0, 9.0]
        start = int(NOW_S * 1000)
        assert await asked(since_ms=start + 2, until_ms=start + 4) == [2.0, 3.0, 4.0]
        assert await asked(until_ms=start + 4, newest_count=2) == [3.0, 4.0]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asked(newest_count=100_001)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


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


async def arrived(client, seen, count):
    """Take messages in until there are so many different values."""
    async for message in client.messages:
        seen |= {value for _, _, value in json.loads(message.payload)["values"]}
        if len(seen) >= count:
            return


async def test_what_comes_while_the_broker_is_gone_is_published_when_it_is_back(
    tmp_path, monkeypatch
):
    import aiomqtt

    monkeypatch.setattr("cloudcore.valuestream.mqtt.BACKOFF_MAX_S", 0.5)
    port, fanout, seen = free_port(), SampleFanout(), set()
    async with TcpProxy("127.0.0.1", port) as way:
        await way.cut()
        sink = MqttSink(MqttSinkSettings(url=f"mqtt://{way.address}"), fanout)
        async with sink:
            task = asyncio.create_task(sink.run())
            for life in range(3):
                for number in (0, 1):
                    await fanout.take(ORIGIN, readings(float(10 * life + number)))
                async with mosquitto(port, tmp_path), aiomqtt.Client("127.0.0.1", port) as client:
                    await client.subscribe("armadillo/values/#", qos=1)
                    await way.heal()  # whoever reads is there before the sink
                    await arrived(client, seen, 3 * life + 2)
                    await fanout.take(ORIGIN, readings(float(10 * life + 2)))
                    await arrived(client, seen, 3 * life + 3)
                    await way.cut()
            task.cancel()
            await asyncio.wait([task])
    assert sink.dropped_count == 0
    assert seen == {float(10 * life + number) for life in range(3) for number in range(3)}


async def test_what_waits_for_a_broker_that_stays_away_is_bounded_and_counted(monkeypatch, caplog):
    monkeypatch.setattr("cloudcore.valuestream.mqtt.MAX_WAITING_BYTES", 10_000)
    fanout = SampleFanout()
    async with MqttSink(MqttSinkSettings(url="mqtt://127.0.0.1:1"), fanout) as sink:
        for number in range(1_000):
            await fanout.take(ORIGIN, readings(float(number), 0.5))
        waiting = [sink._waiting.pop() for _ in range(len(sink._waiting))]
    assert waiting[-1].values[0] == 999.0
    assert 2 * len(waiting) + sink.dropped_count == 2_000
    assert len(waiting) < 10_000 / 20
    warnings = [r for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1


def test_a_sink_that_is_no_broker_is_refused():
    with pytest.raises(ConfigError):
        MqttSink(MqttSinkSettings(url="http://x"), SampleFanout())
