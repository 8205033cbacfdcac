"""When devices were heard last: from their values, or from a sign of life that nobody else sees."""

from array import array

import grpc
import pytest

from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import DEVICES
from cloudcore.samples import SampleFanout
from cloudcore.seams import SampleOrigin
from cloudcore.valuestream.seen import LastSeen
from synccore.pb import values_pb2
from synccore.series import PRESENCE, Readings, Series
from tests.cloudcore.valuestream.test_server import device_object, site
from tests.fakes.samples import FakeSamples

pytestmark = pytest.mark.timeout(30)
ORIGIN = SampleOrigin("edge-1", b"x" * 16, 0)
NOW_S, NOW_MS = 1_767_225_600.0, 1_767_225_600_000
LAMP = "default/lamp-01"


class Seeing:
    def __init__(self):
        self.devices = Informer(DEVICES)
        self.devices.upsert(device_object())
        self.seen = LastSeen(self.devices, lambda: NOW_S)
        self.fanout, self.samples = SampleFanout(self.seen.note), FakeSamples()
        self.fanout.subscribe(self.samples)

    async def take(self, *rows, device=LAMP):
        """Take (property, time before now in ms, value)."""
        names = [Series(device, name) for name in dict.fromkeys(row[0] for row in rows)]
        places = array("I", [[n.property for n in names].index(row[0]) for row in rows])
        times = array("q", [NOW_MS - row[1] for row in rows])
        values = [row[2] for row in rows]
        floats = all(type(v) is float for v in values)
        await self.fanout.take(
            ORIGIN, Readings(names, places, times, array("d", values) if floats else values)
        )

    def times(self, wanted=LAMP):
        return [NOW_MS - time_ms for _, time_ms in self.seen.of([wanted])]


async def test_the_newest_value_of_any_property_counts_and_never_goes_back():
    made = Seeing()
    await made.take(("a", 500, 1.0), ("b", 300, 2.0), ("a", 400, 1.0))
    assert made.times() == [300]
    await made.take(("a", 900, 1.0))
    assert made.times() == made.times("default/") == made.times("/") == [300]
    assert made.times("other/") == []


async def test_a_clock_that_is_ahead_counts_as_now():
    made = Seeing()
    await made.take(("a", -60_000, 1.0))
    assert made.times() == [0]


@pytest.mark.parametrize("value", [2.0, 2, "on"])
async def test_a_sign_of_life_is_seen_and_is_no_value(value):
    made = Seeing()
    await made.take(("a", 5000, value), (PRESENCE, 100, 1.0), ("b", 4000, value))
    assert made.times() == [100]
    assert [key[0].property for key in made.samples.taken] == ["a", "b"]
    (_, readings) = made.samples.blocks[0]
    assert isinstance(readings.values, array) == isinstance(value, float)
    await made.take((PRESENCE, 50, 1.0))
    assert (made.times(), len(made.samples.blocks)) == ([50], 1)


async def test_a_device_of_the_same_name_made_anew_was_never_seen():
    made = Seeing()
    await made.take(("a", 500, 1.0))
    made.devices.upsert(device_object(uid="u-2"))
    assert made.times() == []
    await made.take(("a", 400, 1.0), device="default/nobody")
    assert made.times("/") == []


async def test_who_may_get_a_device_is_told_when_it_was_seen(tmp_path):
    async with site(tmp_path) as made, made.stub("ann") as stub:
        made.reviews.allowed.add(("ann", "get", "default", "lamp-01"))
        made.devices.upsert(device_object())
        await made.say(1.5)
        reply = await stub.Seen(values_pb2.SeenRequest(devices=[LAMP]))
        assert [s.device for s in reply.sightings] == [LAMP]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Seen(values_pb2.SeenRequest(devices=["/"]))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
