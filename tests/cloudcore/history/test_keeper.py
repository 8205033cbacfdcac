"""History as a component: what devices say is kept, over restarts, and no slower for what the disk does."""

import asyncio
import json
from array import array
from contextlib import asynccontextmanager

import pytest

from cloudcore import metrics
from cloudcore.history import keeper, store
from cloudcore.history.keeper import FILE, History
from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import DEVICE_MODELS, DEVICES, read_object
from cloudcore.samples import SampleFanout
from cloudcore.seams import SampleOrigin
from cloudcore.settings import ValueSettings
from corekit.errors import ConfigError
from synccore.messages import ObjectKey
from synccore.series import Readings, Series
from tests.fakes.devices import MODEL, lamp

pytestmark = pytest.mark.timeout(30)
ORIGIN = SampleOrigin("edge-1", b"x" * 16, 0)
NOW_S = 1_767_225_600.0
LAMP = "default/lamp-01"
KEEP = {"history": {"keepSeconds": 60}}


def readings(*values, prop="temperature", start_s=NOW_S, device=LAMP):
    times = array("q", [int(start_s * 1000) + n for n in range(len(values))])
    return Readings([Series(device, prop)], array("I", [0] * len(values)), times, list(values))


class Site:
    def __init__(self, folder=""):
        self.fanout, self.now_s = SampleFanout(), NOW_S
        self.devices, self.models = Informer(DEVICES), Informer(DEVICE_MODELS)
        self.settings = ValueSettings(history_dir=str(folder))

    def device(self, uid="u1", **more):
        document = lamp()
        document["metadata"]["uid"] = uid
        document["spec"]["properties"][2] |= KEEP | more
        self.devices.upsert(read_object("Device", json.dumps(document).encode()))

    @asynccontextmanager
    async def running(self):
        history = History(
            self.settings,
            self.fanout,
            devices=self.devices,
            models=self.models,
            clock=lambda: self.now_s,
        )
        async with history:
            task = asyncio.create_task(history.run())
            try:
                yield history
            finally:
                task.cancel()
                await asyncio.wait([task])


async def kept(history, prop="temperature", **more):
    return [v async for page in history.read(LAMP, prop, **more) for _, v in page]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(keeper, "COMMIT_S", 0.01)


async def until(condition):
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_what_was_kept_is_there_after_a_restart(tmp_path):
    made = Site(tmp_path / "new" / "folder")
    made.device()
    async with made.running() as history:
        await made.fanout.take(ORIGIN, readings(1.0, 2, True, "on"))
        assert await kept(history) == [1.0, 2, True, "on"]
    async with made.running() as history:
        await made.fanout.take(ORIGIN, readings(3.0, start_s=NOW_S + 1))
        assert await kept(history) == [1.0, 2, True, "on", 3.0]
        assert await kept(history, newest_count=2) == ["on", 3.0]


async def test_values_are_kept_as_long_as_the_device_says(tmp_path):
    made = Site(tmp_path)
    made.device()
    async with made.running() as history:
        await made.fanout.take(ORIGIN, readings(0.5, start_s=NOW_S - 61))
        await made.fanout.take(ORIGIN, readings(1.5))
        assert await kept(history) == [1.5]
        made.now_s += 61
        assert await kept(history) == []
        await history._do(lambda file: file.seal(made.now_s * 1000))
        await history.tidy()
        made.now_s -= 61  # what is gone does not come back with the clock
        assert await kept(history) == []


async def test_what_nobody_asks_to_keep_is_not_kept(tmp_path):
    made = Site(tmp_path)
    made.device()
    async with made.running() as history:
        await made.fanout.take(ORIGIN, readings("5", prop="brightness"))
        await made.fanout.take(ORIGIN, readings(1.0, device="default/nobody"))
        await made.fanout.take(ORIGIN, readings(1.0))
        assert await kept(history, "brightness") == []
        assert await kept(history) == [1.0]
        assert await history._do(lambda file: file.series) == [Series(LAMP, "temperature")]


async def test_values_of_a_device_go_when_it_goes(tmp_path):
    made = Site(tmp_path)
    made.device()
    made.devices.mark_synced()
    async with made.running() as history:
        await made.fanout.take(ORIGIN, readings(1.0))
        assert await kept(history) == [1.0]
        made.devices.delete(ObjectKey("Device", "default", "lamp-01"))
        assert await kept(history) == []

        async def gone():
            return await history._do(lambda file: file.series) == []

        await until(gone)
        made.device("u2")
        assert await kept(history) == []


@pytest.mark.parametrize("uid", ["", "u2"])
async def test_values_of_a_device_that_went_while_nobody_looked_go_too(tmp_path, uid):
    before = Site(tmp_path)
    before.device()
    async with before.running() as history:
        await before.fanout.take(ORIGIN, readings(1.0))
    after = Site(tmp_path)
    async with after.running() as history:
        await asyncio.sleep(0.05)  # nothing goes before all devices are known
        assert await history._do(lambda file: file.series) == [Series(LAMP, "temperature")]
        if uid:
            after.device(uid)
        after.devices.mark_synced()

        async def gone():
            return await history._do(lambda file: file.series) == []

        await until(gone)


async def test_values_of_a_device_that_is_still_there_stay_over_a_restart(tmp_path):
    before = Site(tmp_path)
    before.device()
    async with before.running():
        await before.fanout.take(ORIGIN, readings(1.0))
    after = Site(tmp_path)
    async with after.running() as history:
        after.device()
        after.devices.mark_synced()
        await asyncio.sleep(0.05)
        await history.tidy()
        assert await kept(history) == [1.0]


class Counted:
    """An informer's cache that counts how often it is asked."""

    def __init__(self, cache):
        self.cache, self.asked = cache, 0

    def get(self, key):
        self.asked += 1
        return self.cache.get(key)

    def subscribe(self, handler):
        self.cache.subscribe(handler)

    @property
    def synced(self):
        return False


async def test_a_device_is_looked_up_once_for_all_of_its_properties():
    made = Site()
    document, names = lamp(), [f"p{number}" for number in range(500)]
    document["spec"]["properties"] = [{"name": name} | KEEP for name in names]
    made.devices.upsert(read_object("Device", json.dumps(document).encode()))
    informer, made.devices = made.devices, Counted(made.devices)
    count = len(names)
    block = Readings(
        [Series(LAMP, name) for name in names],
        array("I", range(count)),
        array("q", [int(NOW_S * 1000)] * count),
        [0.5] * count,
    )
    async with made.running() as history:
        await made.fanout.take(ORIGIN, block)
        await history._write()
        assert made.devices.asked == 1
        made.devices.cache = informer
        for name in names:
            assert await kept(history, name) == [0.5]


async def test_the_devices_own_history_counts_before_its_models_also_when_it_is_none():
    made = Site()
    model, document = json.loads(json.dumps(MODEL)), lamp()
    for prop in model["spec"]["properties"]:
        prop["history"] = {"keepSeconds": 60}
    names = [prop["name"] for prop in document["spec"]["properties"]]
    document["spec"]["properties"][0]["history"] = {"keepSeconds": 0}
    made.devices.upsert(read_object("Device", json.dumps(document).encode()))
    made.models.upsert(read_object("DeviceModel", json.dumps(model).encode()))
    async with made.running() as history:
        for name in names:
            await made.fanout.take(ORIGIN, readings(1, prop=name))
        found = [bool(await kept(history, name)) for name in names]
    assert found == [False] + [True] * (len(names) - 1)


async def test_a_damaged_file_is_moved_aside_and_named(tmp_path, caplog):
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    made = Site(tmp_path)
    made.device()
    async with made.running() as history:
        assert f"moved to {tmp_path / FILE}.damaged" in caplog.text
        await made.fanout.take(ORIGIN, readings(1.0))
        assert await kept(history) == [1.0]
    assert (tmp_path / f"{FILE}.damaged").read_bytes().startswith(b"no database")


async def test_a_file_that_is_damaged_while_it_is_used_does_not_end_the_stream(tmp_path, caplog):
    made = Site(tmp_path)
    made.device()
    async with made.running() as history:
        await made.fanout.take(ORIGIN, readings(1.0))
        assert await kept(history) == [1.0]

        def drop(file):
            file._db.execute("DROP TABLE journal")
            file._db.execute("CREATE TABLE journal (other)")

        await history._do(lambda file: file.seal(NOW_S * 1000))
        await history._do(drop)
        before = dropped("disk")
        await made.fanout.take(ORIGIN, readings(2.0))

        async def works():
            await made.fanout.take(ORIGIN, readings(3.0))
            return 3.0 in await kept(history)

        await until(works)
        assert dropped("disk") >= before


def dropped(reason):
    return metrics.history_dropped.labels(reason)._value.get()


async def test_a_disk_that_is_full_costs_history_and_not_the_stream(tmp_path, caplog):
    made = Site(tmp_path)
    made.device()
    async with made.running() as history:
        await made.fanout.take(ORIGIN, readings(1.0))
        assert await kept(history) == [1.0]
        pages = await history._do(lambda file: file._pragma("page_count"))
        await history._do(lambda file: file._db.execute(f"PRAGMA max_page_count = {pages}"))

        async def said():
            await made.fanout.take(ORIGIN, readings(*[0.1] * 1_000))
            await history._write()
            return "disk is full" in caplog.text

        await until(said)
        assert len(await kept(history)) > 1_000  # in memory meanwhile
        await history._do(lambda file: file._db.execute("PRAGMA max_page_count = 1000000"))

        async def clear():
            await made.fanout.take(ORIGIN, readings(2.0))
            await history._write()
            return await history._do(lambda file: file._journalled)

        await until(clear)
    async with made.running() as history:
        assert len(await kept(history)) > 1_000


async def test_a_disk_that_is_too_slow_costs_the_oldest_and_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "COMMIT_S", 3600.0)
    monkeypatch.setattr(keeper, "MAX_WAITING_BYTES", 10_000)
    made, before = Site(tmp_path), dropped("slow")
    made.device()
    async with made.running() as history:
        for number in range(100):
            await made.fanout.take(ORIGIN, readings(*[float(number)] * 10))
        assert dropped("slow") > before
        found = await kept(history)
        assert found[-1] == 99.0
        assert len(found) + dropped("slow") - before == 1_000


def test_a_folder_that_cannot_be_used_is_named():
    async def enter():
        async with Site("/proc/nowhere").running():
            pass

    with pytest.raises(ConfigError, match="values.history_dir: /proc/nowhere"):
        asyncio.run(enter())


async def test_a_file_that_another_process_has_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "LOCK_WAIT_S", 0.1)
    made = Site(tmp_path)
    async with made.running() as history:
        await history._do(lambda file: file.seal(0))
        with pytest.raises(ConfigError, match="locked"):
            async with Site(tmp_path).running():
                pass
