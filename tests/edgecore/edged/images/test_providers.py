from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecore.edged.images.credentialcache import MAX_ANSWERS, Answer, CredentialCache
from edgecore.edged.images.keyring import matches
from edgecore.edged.images.providerconfig import parse_providers
from edgecore.edged.images.providers import (
    CredentialProviders,
    ProviderFailedError,
    read_answer,
    run_program,
)
from tests.fakes.credentials import config, provider, put_program, response

pytestmark = pytest.mark.timeout(30)  # they start programs, and the machine may be busy
ME = {"ghcr.io": {"username": "me", "password": "p"}}


@pytest.mark.parametrize(
    ("pattern", "image", "fits"),
    [
        ("*.kubernetes.io", "prefix.kubernetes.io/a", True),
        ("prefix.*.io", "prefix.kubernetes.io/a", True),
        ("prefix.kubernetes.*", "prefix.kubernetes.io/a", True),
        ("*-good.kubernetes.io", "prefix-good.kubernetes.io/a", True),
        ("app*.k8s.io", "app1.k8s.io/a", True),
        ("*.io", "k8s.gcr.io/a", False),
        ("*.*.registry.io", "a.b.registry.io/x", True),
        ("registry.io:8080/path", "registry.io:8080/path/a", True),
        (
            "registry.io:8080/path",
            "registry.io:8080/pathology/a",
            True,
        ),  # upstream: letter by letter
        ("registry.io/path/", "registry.io/pathology/a", False),
        ("registry.io:8080", "registry.io:8081/a", False),
        ("registry.io", "registry.io:8080/a", False),
        ("registry.io:8080", "registry.io/a", False),
        ("registry.io/path", "registry.io/other", False),
        ("docker.io", "busybox", True),
        ("docker.io/library", "busybox:1", True),
        ("index.docker.io/v1/", "team/app", True),
        ("gcr.io", "gcr.io/a:1@sha256:" + "0" * 64, True),
    ],
)
def test_a_pattern_is_for_the_images_that_upstream_says(pattern, image, fits):
    assert matches(pattern, image) is fits


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_pattern_and_no_image_is_too_odd_to_be_matched(pattern, image):
    assert matches(pattern, image) in (True, False)


@pytest.mark.parametrize(
    ("key_type", "kept_for"),
    [
        ("Image", ["ghcr.io/a"]),
        ("Registry", ["ghcr.io/a", "ghcr.io/b"]),
        ("Global", ["ghcr.io/a", "ghcr.io/b", "quay.io/a"]),
    ],
)
def test_an_answer_is_kept_for_its_image_its_registry_or_all_and_for_its_time(key_type, kept_for):
    cache = CredentialCache()
    cache.put("ghcr.io/a", Answer({}, key_type, 60.0), 1000.0)
    images = ["ghcr.io/a", "ghcr.io/b", "quay.io/a"]
    assert [i for i in images if cache.get(i, 1060.0) is not None] == kept_for
    assert [i for i in images if cache.get(i, 1060.1) is not None] == []


def test_the_answer_for_the_image_itself_comes_before_that_for_all():
    cache = CredentialCache()
    for key_type in ("Global", "Registry", "Image"):
        cache.put("ghcr.io/a", Answer({key_type: None}, key_type, 60.0), 0.0)
    assert cache.get("ghcr.io/a:1", 0.0) == {"Image": None}
    assert cache.get("ghcr.io/b", 0.0) == {"Registry": None}
    assert cache.get("quay.io/b", 0.0) == {"Global": None}


def test_what_is_kept_is_bounded_and_what_expires_first_gives_way():
    cache = CredentialCache()
    for number in range(MAX_ANSWERS + 1):
        cache.put(f"r.io/{number}", Answer({}, "Image", 60.0 + number), 0.0)
    assert cache.get("r.io/0", 0.0) is None
    assert cache.get(f"r.io/{MAX_ANSWERS}", 0.0) == {}


@pytest.mark.parametrize(
    ("duration", "keep_s"), [(None, 600.0), ("0s", 0.0), ("1h", 3600.0)], ids=str
)
def test_an_answer_without_a_duration_is_kept_for_the_default(duration, keep_s):
    (asked,) = parse_providers("c", config(provider("p", defaultCacheDuration="10m")))
    answer = read_answer(response(ME, cacheDuration=duration), asked)
    assert answer.keep_s == keep_s
    assert (answer.auths["ghcr.io"].username, answer.auths["ghcr.io"].password) == ("me", "p")


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (b"", "its answer is no CredentialProviderResponse"),
        (b"\xff", "its answer is no CredentialProviderResponse"),
        (response({"ghcr.io": {"password": 5}}), "its answer is no CredentialProviderResponse"),
        (response(ME, kind="Secret"), "its answer has the kind 'Secret'"),
        (response(ME, apiVersion="v2"), "its answer is of 'v2', not credentialprovider.kubelet"),
        (response(ME, cacheKeyType="Pod"), "'Pod' of its answer is not one of Image, Registry, Gl"),
        (response(ME, cacheDuration="soon"), "cacheDuration of its answer: 'soon' is not a durat"),
    ],
)
def test_a_wrong_answer_is_one_line_without_its_credentials(output, says):
    (asked,) = parse_providers("c", config(provider("p")))
    with pytest.raises(ProviderFailedError) as caught:
        read_answer(output, asked)
    assert says in str(caught.value)


@given(st.binary(max_size=80))
def test_no_answer_is_too_broken(output):
    (asked,) = parse_providers("c", config(provider("p")))
    with pytest.raises(ProviderFailedError):
        read_answer(output, asked)


def providers(folder, *wanted, limit_s=30.0, clock=lambda: 0.0):
    return CredentialProviders(
        parse_providers("c", config(*wanted)), folder, clock=clock, limit_s=limit_s
    )


def answering(folder, name, auth, **fields):
    """A program that counts its calls in the file NAME.asked, each as the question it was asked."""
    answer = response(auth, **fields).decode()
    put_program(folder, name, f"cat >> {folder}/{name}.asked; echo '{answer}'")


def asked(folder, name):
    path = folder / f"{name}.asked"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_a_program_is_asked_for_the_repository_and_its_answer_is_kept(tmp_path):
    answering(tmp_path, "p", ME, cacheKeyType="Registry", cacheDuration="1m")
    now = 0.0
    known = providers(tmp_path, provider("p"), clock=lambda: now)
    (auth,) = await known.auths("ghcr.io/team/app:1")
    assert (auth.username, auth.password) == ("me", "p")
    assert asked(tmp_path, "p") == [
        {
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "kind": "CredentialProviderRequest",
            "image": "ghcr.io/team/app",
        }
    ]
    assert await known.auths("ghcr.io/other") == [auth]
    assert len(asked(tmp_path, "p")) == 1
    now = 60.1
    assert await known.auths("ghcr.io/other") == [auth]
    assert len(asked(tmp_path, "p")) == 2


async def test_a_program_is_not_asked_for_what_is_not_its_image(tmp_path):
    answering(tmp_path, "p", ME)
    known = providers(tmp_path, provider("p", matchImages=["quay.io", "ghcr.io:5000"]))
    assert await known.auths("ghcr.io/a") == []
    assert asked(tmp_path, "p") == []


async def test_what_a_program_says_of_other_registries_is_not_tried(tmp_path):
    answering(tmp_path, "p", ME | {"quay.io": {"username": "q"}, "ghcr.io/b": {"username": "b"}})
    known = providers(tmp_path, provider("p"))
    assert [auth.username for auth in await known.auths("ghcr.io/a")] == ["me"]


async def test_several_providers_are_merged_the_most_specific_first_then_the_earlier(tmp_path):
    answering(tmp_path, "one", {"ghcr.io": {"username": "one"}, "*.io": {"username": "glob"}})
    put_program(tmp_path, "broken", "echo 'no luck' >&2; exit 3")
    answering(tmp_path, "two", {"ghcr.io": {"username": "two"}, "ghcr.io/a": {"username": "deep"}})
    known = providers(tmp_path, *map(provider, ("one", "broken", "two")))
    found = [auth.username for auth in await known.auths("ghcr.io/a/b")]
    assert found == ["deep", "one", "two", "glob"]


async def test_those_who_ask_at_once_for_one_image_ask_once(tmp_path):
    answering(tmp_path, "p", ME, cacheDuration="1m")
    known = providers(tmp_path, provider("p"))
    found = await asyncio.gather(*(known.auths("ghcr.io/a") for _ in range(5)))
    assert [len(auths) for auths in found] == [1] * 5
    assert len(asked(tmp_path, "p")) == 1


async def test_a_program_has_its_arguments_and_variables_beside_the_agents_own(tmp_path):
    put_program(tmp_path, "p", 'echo "$1 $2 $REGION $PATH"')
    wanted = provider("p", args=["get", "a b"], env=[{"name": "REGION", "value": "eu"}])
    (checked,) = parse_providers("c", config(wanted))
    output = await run_program(tmp_path / "p", checked, "ghcr.io/a", 30.0)
    assert output.decode().strip() == f"get a b eu {os.environ['PATH']}"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'no token' >&2; exit 3", "exit status 3 for ghcr.io/a: no token"),
        ("exec 0<&-; exit 1", "exit status 1 for ghcr.io/a"),
        ("head -c 1100000 /dev/zero", "its answer is larger than 1048576 bytes"),
    ],
)
async def test_a_program_that_fails_is_told_once_and_stops_no_pull(tmp_path, caplog, script, says):
    put_program(tmp_path, "p", script)
    known = providers(tmp_path, provider("p"))
    with caplog.at_level(logging.WARNING):
        assert await known.auths("ghcr.io/a") == []
        assert await known.auths("ghcr.io/a") == []
    (told,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "credential provider p" in told
    assert says in told


async def test_a_program_that_has_gone_stops_no_pull(tmp_path, caplog):
    assert await providers(tmp_path, provider("gone")).auths("ghcr.io/a") == []
    assert "No such file or directory" in caplog.text


async def test_a_program_that_does_not_end_is_ended_with_what_it_started(tmp_path, caplog):
    put_program(tmp_path, "p", f"sleep 1000 & echo $! > {tmp_path}/child; wait")
    assert await providers(tmp_path, provider("p"), limit_s=1.0).auths("ghcr.io/a") == []
    assert "no answer for ghcr.io/a within 1 s" in caplog.text
    # It may have been ended before it had started anything.
    child = tmp_path / "child"
    if child.exists() and (pid := child.read_text().strip()):
        async with asyncio.timeout(20):
            while not _ended(pid):
                await asyncio.sleep(0.01)


def _ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
