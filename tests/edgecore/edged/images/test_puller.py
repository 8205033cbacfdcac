from __future__ import annotations

import asyncio

import pytest

from edgecore.edged.images.puller import ImagePuller
from edgecore.edged.runtime import ContainerStartError, ImageState, RegistryAuth
from tests.fakes.runtime import FakeRuntime


@pytest.fixture
def runtime(clock):
    runtime = FakeRuntime(clock)
    runtime.registry = {name: ImageState(name, (name,), 7) for name in ("a:1", "b:1")}
    return runtime


async def overlap(runtime, at_once):
    """Start two pulls and tell how many reached the runtime while none had ended."""
    runtime.pull_gate = asyncio.Event()
    puller = ImagePuller(runtime, at_once)
    async with asyncio.TaskGroup() as group:
        for name in ("a:1", "b:1"):
            group.create_task(puller.pull(name, ()))
        for _ in range(10):
            await asyncio.sleep(0)
        reached = len(runtime.calls)
        runtime.pull_gate.set()
    return reached


async def test_pulls_wait_for_each_other_if_told_so(runtime):
    assert await overlap(runtime, 1) == 1


async def test_pulls_go_side_by_side_without_a_limit(runtime):
    assert await overlap(runtime, 0) == 2


async def test_every_credential_is_tried_before_the_pull_has_failed(runtime):
    auths = [RegistryAuth("one"), RegistryAuth("two")]
    with pytest.raises(ContainerStartError) as caught:
        await ImagePuller(runtime, 1).pull("c:1", auths)
    assert caught.value.reason == "ErrImagePull"
    assert runtime.auths == auths


async def test_a_registry_that_is_down_has_a_word_of_its_own(runtime, monkeypatch):
    class Down(FakeRuntime):
        async def pull(self, reference, auth=None):
            raise ContainerStartError("ErrImagePull", "RegistryUnavailable: try later")

    with pytest.raises(ContainerStartError) as caught:
        await ImagePuller(Down(None), 1).pull("a:1", ())
    assert caught.value.reason == "RegistryUnavailable"
    assert caught.value.message == (
        "image pull failed for a:1 because the registry is unavailable: try later"
    )


async def test_the_nodes_own_credentials_are_tried_after_those_of_the_pod_and_each_once(runtime):
    class Providers:
        async def auths(self, image):
            return [RegistryAuth(f"own of {image}"), RegistryAuth("one")]

    puller = ImagePuller(runtime, 1, providers=Providers())
    with pytest.raises(ContainerStartError):
        await puller.pull("c:1", [RegistryAuth("one"), RegistryAuth("two")])
    assert [auth.username for auth in runtime.auths] == ["one", "two", "own of c:1"]
