"""Images and dead containers that are swept, on a containerd of these tests' own whose disk is small."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import subprocess
import time

import pytest

from armadillo.containerd import PodNetwork, PrivateContainerd, missing_parts
from armadillo.images import PAUSE_IMAGE, LocalImage, local_images
from edgecore.edged.cri import CriRuntime
from edgecore.edged.images.janitor import Janitor
from edgecore.edged.pods.events import EventRecorder, NodeEvents
from tests.fakes.pods import container, pod_object
from tests.integration.edged.evicting import watched
from tests.integration.edged.lab import FOREVER, Lab, RecordingStore

pytestmark = [pytest.mark.timeout(180), pytest.mark.containerd]
DISK_BYTES = 96 << 20
OLD = ("old.test/kept:1", "old.test/left:1")  # there from the start
BALLAST = tuple(f"new.test/ballast-{n}:1" for n in range(4))


def image(name):
    """A busybox of its own layer: what is freed with one image is no other's."""
    return LocalImage(name, ("sh",), ("sh", "sleep", "echo", name.replace("/", "-")))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    if missing := missing_parts():
        pytest.skip(f"no private containerd here: missing {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("small")
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], check=True
    )
    network = PodNetwork(f"armas{os.getpid()}"[:15], f"10.96.{random.randrange(256)}.0/24")
    daemon = PrivateContainerd(folder / "c", network)
    daemon.start()
    yield daemon
    daemon.purge()
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
async def lab(tmp_path, daemon):
    """A fresh agent on it, with the sandbox image and two more."""
    pause = [made for made in local_images() if made.name == PAUSE_IMAGE]
    daemon.ensure_images([*pause, *map(image, OLD)])
    runtime = CriRuntime(str(daemon.socket), owner=f"edge-{os.urandom(4).hex()}")
    async with RecordingStore(tmp_path / "edge.db") as store:
        yield Lab(tmp_path, time.time, store=store, runtime=runtime)
        for sandbox in await runtime.list_sandboxes():
            await runtime.remove_sandbox(sandbox.id)
        for found in await runtime.images():
            if PAUSE_IMAGE not in found.names:
                await runtime.remove_image(found.id)
    await runtime.close()


def used_bytes(daemon):
    disk = os.statvfs(daemon.folder)
    return (disk.f_blocks - disk.f_bavail) * disk.f_frsize


def percent(count):
    return round(count * 100 / DISK_BYTES)


async def present(lab):
    return {
        name for found in await lab.runtime.images() for name in found.names if ".test/" in name
    }


def sleeper(name, made_from, script=FOREVER):
    app = container(image=made_from, command=["/bin/sh", "-c", script])
    return pod_object(name, f"u-{name}", [app], terminationGracePeriodSeconds=0)


def janitor_of(lab, edged, **settings):
    clock = lambda: time.time() + lab.ahead_s  # noqa: E731
    lab.ahead_s = 0.0
    events = NodeEvents(EventRecorder("edge-1", clock), lab.store, "edge-1")
    chosen = dataclasses.replace(lab.settings, **settings)
    return Janitor(chosen, lab.runtime, wanted=edged.images_wanted, tell=events.tell, clock=clock)


@contextlib.asynccontextmanager
async def with_pods(lab):
    """Edged with a pod of each old image."""
    async with lab.running() as edged:
        for name, made_from in (("kept", OLD[0]), ("left", OLD[1])):
            await lab.put("Pod", sleeper(name, made_from))
        await lab.until(lambda: {lab.phase("kept"), lab.phase("left")} == {"Running"})
        yield edged
        for name in ("kept", "left"):
            await lab.drop("Pod", name, f"u-{name}")
        await lab.until(lambda: not list((lab.folder / "pods/volumes").iterdir()))


async def leave(lab, edged):
    """Drop the second pod, and wait until nothing of it wants its image."""
    await lab.drop("Pod", "left", "u-left")
    async with asyncio.timeout(40):
        while OLD[1] in await edged.images_wanted() | await lab.runtime.used_images():
            await asyncio.sleep(0.05)


async def test_images_go_by_the_fill_of_their_disk_the_longest_unused_first(lab, daemon):
    async with with_pods(lab) as edged:
        before = used_bytes(daemon)
        (ref,) = [i for i in await lab.runtime.images() if OLD[0] in i.names]
        told = ref.size_bytes  # on the disk it takes twice that: packed and unpacked
        each = 2 * told
        janitor = janitor_of(
            lab,
            edged,
            image_min_gc_age_s=120.0,
            image_gc_high_percent=percent(before + 2.3 * each),
            # With one image of them gone, it asks for two and a half of those that are left.
            image_gc_low_percent=percent(before + 3 * each - 2.5 * told),
        )
        # Below the high mark; it learns what is in use.
        assert await janitor.sweep_images() == 0
        await leave(lab, edged)
        daemon.ensure_images(list(map(image, BALLAST)))
        # Over it. The new images are too young to go, one is in use, so one is all there is.
        assert await janitor.sweep_images() == told
        assert await present(lab) == {OLD[0], *BALLAST}
        (failed,) = [m for _, r, m in lab.events() if r == "FreeDiskSpaceFailed"]
        assert failed.startswith(
            "Failed to garbage collect required amount of images. Attempted to"
        )
        assert failed.endswith(f"but only found {told} bytes eligible to free.")
        # Two minutes later they go, those it takes and no more.
        lab.ahead_s = 121.0
        assert await janitor.sweep_images() > 0
        left = await present(lab)
        assert OLD[0] in left
        assert 0 < len(left - {OLD[0]}) < len(BALLAST)
        assert await janitor.sweep_images() == 0
        assert lab.phase("kept") == "Running"
        # The sandbox image is used by every pod, and by none by name: a new pod still gets its sandbox.
        await lab.put("Pod", sleeper("next", OLD[0]))
        await lab.until(lambda: lab.phase("next") == "Running")
        await lab.drop("Pod", "next", "u-next")


async def test_an_image_goes_that_lay_unused_for_too_long_and_not_before(lab):
    async with with_pods(lab) as edged:
        rules = {"image_min_gc_age_s": 0.0, "image_max_gc_age_s": 3600.0}
        janitor = janitor_of(lab, edged, **rules, image_gc_high_percent=100)
        await janitor.sweep_images()
        await leave(lab, edged)
        lab.ahead_s = 3500.0
        await janitor.sweep_images()
        assert await present(lab) == set(OLD)
        # A restarted agent does not know how long: it counts from when it saw the image in use.
        again = janitor_of(lab, edged, **rules, image_gc_high_percent=100)
        lab.ahead_s = 3700.0
        await again.sweep_images()
        assert await present(lab) == set(OLD)
        await janitor.sweep_images()
        assert await present(lab) == {OLD[0]}


async def test_unused_images_go_before_any_pod_is_ended_for_the_disk(lab, daemon):
    async with with_pods(lab):
        pass  # both images are there, and nobody uses them
    await asyncio.to_thread(daemon.ensure_images, list(map(image, BALLAST)))
    (ref,) = [i for i in await lab.runtime.images() if OLD[0] in i.names]
    short = DISK_BYTES - used_bytes(daemon) - 2 * ref.size_bytes
    # The disk is that much fuller soon; what is not used takes twice as much of it.
    more = daemon.folder.parent / "of-the-node"
    lab.settings = dataclasses.replace(
        lab.settings,
        eviction_hard={"imagefs.available": str(short)},
        eviction_period_s=0.2,
        eviction_pressure_transition_s=3600.0,
    )
    async with watched(lab, Janitor) as manager:
        await lab.put("Pod", sleeper("web", OLD[0]))
        await lab.until(lambda: lab.phase() == "Running")
        assert manager.conditions == ()
        more.write_bytes(b"x" * (4 * ref.size_bytes))
        await lab.until(lambda: manager.conditions == ("DiskPressure",))
        async with asyncio.timeout(40):
            while await present(lab) != {OLD[0]}:
                await asyncio.sleep(0.05)
        assert any(r == "EvictionThresholdMet" for _, r, _ in lab.events())
        await lab.quiet(lab.phase)
        assert lab.phase() == "Running"
        assert "Evicted" not in lab.reasons()
        await lab.drop("Pod", "web", "u-web")
        await lab.until(lambda: not list((lab.folder / "pods/volumes").iterdir()))
    more.unlink()


async def test_of_dead_containers_one_each_is_kept_and_none_of_a_pod_that_is_gone(lab):
    async def containers():
        found = await lab.runtime.sandbox("u-web")
        return [c for sandbox in found for c in sandbox.containers]

    def counts():
        return [s["restartCount"] for s in lab.status().get("containerStatuses", ())]

    async with lab.running() as edged:
        janitor = janitor_of(lab, edged, max_dead_containers_per_container=1)
        made = sleeper("web", OLD[0])
        made["spec"]["containers"].append({**made["spec"]["containers"][0], "name": "other"})
        await lab.put("Pod", made)
        for attempt in range(4):
            await lab.until(lambda n=attempt: counts() == [n, 0] and "running" in lab.state())
            await janitor.sweep_containers()
            of_app = sorted(c.attempt for c in await containers() if c.name == "app")
            assert of_app == list(range(max(attempt - 1, 0), attempt + 1))
            if attempt < 3:  # another image starts it again at once
                made["spec"]["containers"][0]["image"] = OLD[(attempt + 1) % 2]
                await lab.put("Pod", made)
        none = janitor_of(lab, edged, max_dead_containers_per_container=0)
        assert await none.sweep_containers() == 1
        assert sorted((c.name, c.attempt) for c in await containers()) == [("app", 3), ("other", 0)]
        await lab.drop("Pod", "web", "u-web")
        await lab.until(lambda: not (lab.folder / "pods/volumes/u-web").exists())
        assert await containers() == []


async def test_an_image_that_the_runtime_cannot_tell_apart_is_an_inspect_error(lab, daemon):
    """containerd takes a name for the beginning of an image's id too; two that begin alike are no image."""
    many = [LocalImage(f"many.test/{n}:1", ("sh", str(n)), ("sh",)) for n in range(17)]
    daemon.ensure_images(many)
    digits = [found.id.removeprefix("sha256:")[0] for found in await lab.runtime.images()]
    alike = [digit for digit in digits if digits.count(digit) > 1]  # of 17 at least two are
    async with lab.running():
        await lab.put("Pod", sleeper("web", alike[0]))
        await lab.until(lambda: lab.waiting().get("reason") == "ImageInspectError")
        message = lab.waiting()["message"]
        assert message.startswith(f'Failed to inspect image "{alike[0]}": ')
        said = lab.events()
        assert ("Warning", "InspectFailed", message) in said
        assert ("Warning", "Failed", "Error: ImageInspectError") in said
        assert lab.phase() == "Pending"
        await lab.drop("Pod", "web", "u-web")
        await lab.until(lambda: not (lab.folder / "pods/volumes/u-web").exists())
