"""Pulls by containerd from a registry that the test serves: policies, credentials, errors by their names."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest

from edgecore.app import credential_providers
from tests.fakes.credentials import config, provider, put_program, response
from tests.fakes.pods import container, pod_object
from tests.fakes.registry import FakeRegistry, pull_secret

pytestmark = [pytest.mark.timeout(90), pytest.mark.containerd]
SLEEP = ["/bin/sh", "-c", "sleep 1000"]


@pytest.fixture
def registry(tmp_path):
    with FakeRegistry(tmp_path).running() as registry:
        yield registry


@pytest.fixture
async def edge(cri_edge, cri, registry):
    yield cri_edge
    for image in await cri.images():
        if any(registry.host in name for name in image.names):
            await cri.remove_image(image.id)


def pod(image, policy="IfNotPresent", name="web", uid="u-1", **spec):
    spec.setdefault("terminationGracePeriodSeconds", 0)
    return pod_object(
        name,
        uid,
        containers=[container(image=image, command=SLEEP, imagePullPolicy=policy)],
        **spec,
    )


async def test_an_image_is_pulled_and_the_events_say_so(edge, registry):
    image = registry.put("team/app")
    async with edge.running():
        await edge.put("Pod", pod(image))
        await edge.until(lambda: edge.phase() == "Running", 60)
        messages = [(reason, text) for _, reason, text in edge.events()]
        assert ("Pulling", f'Pulling image "{image}"') in messages
        (pulled,) = [text for reason, text in messages if reason == "Pulled"]
        assert pulled.startswith(f'Successfully pulled image "{image}" in ')
        assert "including waiting). Image size: " in pulled
        assert edge.container()["imageID"].startswith(f"{registry.host}/team/app@sha256:")
        # IfNotPresent asks no registry for what is here, Always does.
        count = len(registry.asked)
        await edge.put("Pod", pod(image, name="again", uid="u-2"))
        await edge.until(lambda: edge.phase("again") == "Running", 60)
        assert len(registry.asked) == count
        await edge.put("Pod", pod(image, "Always", name="always", uid="u-3"))
        await edge.until(lambda: edge.phase("always") == "Running", 60)
        assert len(registry.asked) > count
        present = f'Container image "{image}" already present on machine'
        assert ("Normal", "Pulled", present) in edge.events()


@pytest.mark.parametrize("old_form", [False, True], ids=["dockerconfigjson", "dockercfg"])
async def test_a_pull_secret_opens_a_private_repository(edge, registry, old_form):
    image = registry.put("secret/app")
    registry.passwords["secret/app"] = ("robot", "s3cret")
    await edge.put("Secret", pull_secret("wrong", registry.host, "robot", "guess"))
    good = pull_secret("good", registry.host, "robot", "s3cret", old_form=old_form)
    await edge.put("Secret", good)
    async with edge.running():
        await edge.put("Pod", pod(image, imagePullSecrets=[{"name": "wrong"}, {"name": "good"}]))
        await edge.until(lambda: edge.phase() == "Running", 60)


async def test_a_program_of_the_node_opens_a_private_repository(edge, registry, tmp_path):
    image = registry.put("secret/app")
    registry.passwords["secret/app"] = ("robot", "s3cret")
    folder, asked, config_file = tmp_path / "bin", tmp_path / "asked", tmp_path / "providers.yaml"
    folder.mkdir()
    put_program(folder, "broken", "exit 1")
    answer = response(
        {
            registry.host: {"username": "robot", "password": "guess"},
            f"{registry.host}/secret": {"username": "robot", "password": "s3cret"},
        },
        cacheKeyType="Registry",
        cacheDuration="1h",
    )
    put_program(folder, "robot", f"cat >> {asked}; cat <<'END'\n{answer.decode()}\nEND")
    of_here = {"matchImages": [f"127.0.*.1:{registry.host.partition(':')[2]}"]}
    config_file.write_bytes(config(provider("broken", **of_here), provider("robot", **of_here)))
    edge.providers = credential_providers(
        dataclasses.replace(
            edge.settings,
            image_credential_provider_config=str(config_file),
            image_credential_provider_bin_dir=str(folder),
        )
    )
    await edge.put("Secret", pull_secret("wrong", registry.host, "robot", "guess"))
    async with edge.running():
        await edge.put("Pod", pod(image, imagePullSecrets=[{"name": "wrong"}]))
        await edge.until(lambda: edge.phase() == "Running", 60)
        (question,) = asked.read_text().splitlines()
        assert json.loads(question)["image"] == f"{registry.host}/secret/app"
        # What it said is kept: the next pull asks the registry, but not the program.
        count = len(registry.asked)
        await edge.put("Pod", pod(image, "Always", name="again", uid="u-2"))
        await edge.until(lambda: edge.phase("again") == "Running", 60)
        assert len(registry.asked) > count
        assert len(asked.read_text().splitlines()) == 1


async def test_without_the_secret_it_backs_off_and_says_why(edge, registry):
    image = registry.put("secret/app")
    registry.passwords["secret/app"] = ("robot", "s3cret")
    async with edge.running():
        await edge.put("Pod", pod(image))
        await edge.until(lambda: edge.waiting().get("reason") == "ErrImagePull", 60)
        assert "401 Unauthorized" in edge.waiting()["message"]
        await edge.until(lambda: edge.waiting().get("reason") == "ImagePullBackOff", 60)
        assert edge.waiting()["message"].startswith(
            f'Back-off pulling image "{image}": ErrImagePull'
        )
        said = [(reason, text) for _, reason, text in edge.events()]
        assert ("BackOff", f'Back-off pulling image "{image}"') in said
        assert ("Failed", "Error: ErrImagePull") in said
        assert ("Failed", "Error: ImagePullBackOff") in said
        assert any(
            r == "Failed" and t.startswith(f'Failed to pull image "{image}": ') for r, t in said
        )
        assert edge.phase() == "Pending"


async def test_images_that_cannot_be_have_their_reasons(edge, registry):
    missing = f"{registry.host}/team/none:1"
    pods = {
        "never": (pod(missing, "Never", "never", "u-1"), "ErrImageNeverPull"),
        "bad": (pod("UPPER/Case:1", name="bad", uid="u-2"), "InvalidImageName"),
        "none": (pod(missing, name="none", uid="u-3"), "ErrImagePull"),
    }
    async with edge.running():
        for obj, _ in pods.values():
            await edge.put("Pod", obj)
        async with asyncio.timeout(60):
            for name, (_, reason) in pods.items():
                while edge.waiting(name).get("reason") != reason:
                    await asyncio.sleep(0.02)
        said = [(reason, text) for _, reason, text in edge.events()]
        assert (
            "ErrImageNeverPull",
            f'Container image "{missing}" is not present with pull policy of Never',
        ) in said
        assert ("Failed", "Error: InvalidImageName") in said
        assert any(
            r == "InspectFailed"
            and t.startswith('Failed to apply default image tag "UPPER/Case:1"')
            for r, t in said
        )


async def test_a_registry_that_has_gone_is_said_and_does_no_harm_to_images_that_are_here(
    edge, tmp_path
):
    """containerd has no word of its own for it, as CRI-O has (RegistryUnavailable); kubelet says ErrImagePull too."""
    (tmp_path / "gone").mkdir()
    with FakeRegistry(tmp_path / "gone").running() as registry:
        here, gone = registry.put("team/here"), registry.put("team/gone")
        await edge.runtime.pull(here)
        registry.broken = True
        async with edge.running():
            await edge.put("Pod", pod(gone, name="broken", uid="u-1"))
            await edge.until(lambda: edge.waiting("broken").get("reason") == "ErrImagePull", 60)
            assert "503 Service Unavailable" in edge.waiting("broken")["message"]
    try:
        async with edge.running():
            pods = {"present": pod(here, name="present", uid="u-2")}
            pods["gone"] = pod(gone, name="gone", uid="u-3")
            pods["always"] = pod(here, "Always", name="always", uid="u-4")
            for made in pods.values():
                await edge.put("Pod", made)
            await edge.until(lambda: edge.phase("present") == "Running", 60)
            for name, image in (("gone", gone), ("always", here)):
                await edge.until(
                    lambda name=name: edge.waiting(name).get("reason") == "ErrImagePull", 60
                )
                assert "connection refused" in edge.waiting(name)["message"]
                assert edge.phase(name) == "Pending"
                said = [t for _, r, t in edge.events() if r == "Failed"]
                assert any(t.startswith(f'Failed to pull image "{image}": ') for t in said)
            await edge.until(lambda: edge.waiting("gone")["reason"] == "ImagePullBackOff", 60)
    finally:
        (image,) = [i for i in await edge.runtime.images() if here in i.names]
        for sandbox in await edge.runtime.list_sandboxes():
            await edge.runtime.remove_sandbox(sandbox.id)
        await edge.runtime.remove_image(image.id)
