from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecore.edged.images.gc import (
    ImageNote,
    ImagePolicy,
    bytes_to_free,
    dead_to_remove,
    noted,
    removable,
    too_old,
)
from edgecore.edged.images.janitor import Janitor
from edgecore.edged.images.keyring import full_name
from edgecore.edged.runtime import (
    ContainerPhase,
    ContainerState,
    ImageState,
    PodIdentity,
    SandboxState,
)
from edgecore.edged.usage import ImageFilesystem
from edgecore.settings import PodSettings
from tests.fakes.runtime import FakeRuntime

POLICY = ImagePolicy()


def image(name, **fields):
    return ImageState(f"sha256:{name}", (f"docker.io/library/{name}:latest",), 100, **fields)


def test_nothing_goes_below_the_high_mark_and_above_it_down_to_the_low_one():
    assert bytes_to_free(1000, 160, POLICY) == 0  # 84 %
    assert bytes_to_free(1000, 150, POLICY) == 50  # 85 %: down to 80
    assert bytes_to_free(1000, 0, ImagePolicy(high_percent=100)) == 0  # switched off


def test_the_longest_unused_goes_first_and_the_young_the_used_and_the_pinned_stay():
    images = [
        image("a"),
        image("b"),
        image("c"),
        image("used"),
        image("young"),
        image("pin", pinned=True),
    ]
    notes = {i.id: ImageNote(0.0, 0.0) for i in images}
    notes["sha256:a"] = ImageNote(0.0, 500.0)
    notes["sha256:b"] = ImageNote(10.0, 400.0)
    notes["sha256:c"] = ImageNote(5.0, 400.0)
    notes["sha256:young"] = ImageNote(950.0, 0.0)
    used = {"docker.io/library/used:latest"}
    found = removable(images, used, notes, 1000.0, 120.0)
    assert [i.id for i in found] == ["sha256:c", "sha256:b", "sha256:a"]


def test_an_image_that_was_there_before_is_old_and_a_new_one_is_not():
    notes = noted([image("a")], set(), {}, 1000.0, first_look=True)
    notes = noted([image("a"), image("b")], {"sha256:b"}, notes, 1060.0, first_look=False)
    assert notes == {"sha256:a": ImageNote(0.0, 0.0), "sha256:b": ImageNote(1060.0, 1060.0)}
    assert too_old([image("b")], set(), notes, 2000.0, replace(POLICY, max_age_s=900.0)) == [
        image("b")
    ]
    assert too_old([image("b")], set(), notes, 1900.0, replace(POLICY, max_age_s=900.0)) == []


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("team/app:2", "docker.io/team/app:2"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
        ("ghcr.io/a/b@sha256:1", "ghcr.io/a/b@sha256:1"),
    ],
)
def test_a_name_is_known_as_the_runtime_writes_it(short, full):
    assert full_name(short) == full


def sandbox(uid, *containers):
    return SandboxState("s-" + uid, PodIdentity("d", uid, uid), 0, True, 1.0, containers=containers)


def attempt(name, number, phase=ContainerPhase.EXITED, finished_s=10.0):
    return ContainerState(
        f"{name}-{number}", name, number, phase, "i", "i", float(number), finished_s=finished_s
    )


def removed(*sandboxes, now_s=100.0, **policy):
    return [c.id for c in dead_to_remove(sandboxes, now_s, **policy)]


def test_one_dead_attempt_of_each_container_is_kept():
    running = attempt("app", 3, ContainerPhase.RUNNING)
    dead = [attempt("app", n) for n in range(3)]
    assert removed(sandbox("u", *dead, running)) == ["app-0", "app-1"]
    assert removed(sandbox("u", *dead)) == ["app-0", "app-1"]
    assert removed(sandbox("u", *dead, running), per_container=0) == ["app-0", "app-1", "app-2"]
    assert removed(sandbox("u", *dead, running), per_container=-1) == []


def test_the_just_ended_stay_and_the_node_has_a_total():
    dead = [attempt("app", n, finished_s=95.0) for n in range(2)]
    assert removed(sandbox("u", *dead, attempt("app", 2)), min_age_s=10.0) == []
    pods = [
        sandbox(f"u{p}", attempt("app", 0), attempt("app", 1, ContainerPhase.RUNNING))
        for p in range(3)
    ]
    assert len(removed(*pods, total=1)) == 2


phases = st.sampled_from(list(ContainerPhase))
containers = st.lists(
    st.builds(attempt, st.sampled_from("ab"), st.integers(0, 9), phases), max_size=12,
    unique_by=lambda c: (c.name, c.attempt),
)  # fmt: skip


@given(containers, st.integers(-1, 3), st.integers(-1, 5))
def test_the_newest_and_the_living_are_never_removed(members, per_container, total):
    gone = set(removed(sandbox("u", *members), per_container=per_container, total=total))
    for name in "ab":
        own = [c for c in members if c.name == name]
        if own:
            assert max(own, key=lambda c: c.attempt).id not in gone
    assert all(c.phase is ContainerPhase.EXITED for c in members if c.id in gone)


class Told(list):
    async def __call__(self, reason, message):
        self.append((reason, message))


@pytest.fixture
def sweep(clock, tmp_path):
    """A janitor of a disk that is always too full."""
    runtime = FakeRuntime(clock, "old:1", "wanted:1")
    runtime.image_fs = ImageFilesystem(str(tmp_path))
    settings = PodSettings(image_gc_high_percent=1, image_gc_low_percent=0)
    told = Told()

    async def wanted():
        return {"wanted:1"}

    return runtime, told, Janitor(settings, runtime, wanted=wanted, tell=told, clock=clock)


async def test_what_a_pod_of_the_node_needs_stays_even_if_the_disk_is_full(sweep):
    runtime, told, janitor = sweep
    await janitor.sweep_images()
    assert [i.id for i in await runtime.images()] == ["sha256:wanted:1"]
    ((reason, message),) = told
    assert reason == "FreeDiskSpaceFailed"
    assert message.startswith(
        "Failed to garbage collect required amount of images. Attempted to free "
    )
    assert message.endswith("but only found 1000 bytes eligible to free.")


async def test_a_young_image_stays_unless_the_node_is_in_need(sweep, clock):
    runtime, _, janitor = sweep
    await janitor.sweep_images()
    runtime._images["new:1"] = ImageState("sha256:new:1", ("new:1",), 5)
    clock.now_s += 1
    assert await janitor.sweep_images() == 0
    assert await janitor.remove_unused_images() == 5
