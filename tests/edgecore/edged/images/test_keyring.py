from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecore.edged.images.keyring import auths_for, credentials_in, split_image


def config(**servers):
    entries = {server: {"username": user, "password": "p"} for server, user in servers.items()}
    return {".dockerconfigjson": json.dumps({"auths": entries}).encode()}


def users(image, *secrets):
    return [auth.username for auth in auths_for(image, credentials_in(secrets))]


@pytest.mark.parametrize(
    ("image", "host", "path"),
    [
        ("busybox", "docker.io", "library/busybox"),
        ("busybox:1@sha256:" + "a" * 64, "docker.io", "library/busybox"),
        ("team/app:1", "docker.io", "team/app"),
        ("index.docker.io/team/app", "docker.io", "team/app"),
        ("localhost/app:1", "localhost", "app"),
        ("registry:5000/a/b:1", "registry:5000", "a/b"),
        ("ghcr.io/a/b", "ghcr.io", "a/b"),
    ],
)
def test_an_image_names_its_registry(image, host, path):
    assert split_image(image) == (host, path)


@pytest.mark.parametrize(
    ("server", "image", "fits"),
    [
        ("ghcr.io", "ghcr.io/a/b:1", True),
        ("https://ghcr.io/v2/", "ghcr.io/a/b:1", True),
        ("https://index.docker.io/v1/", "busybox", True),
        ("docker.io", "team/app", True),
        ("ghcr.io/a", "ghcr.io/a/b:1", True),
        ("ghcr.io/a", "ghcr.io/ab/c:1", False),
        ("ghcr.io/a/b", "ghcr.io/a/b:1", True),
        ("*.example.com", "eu.example.com/a:1", True),
        ("*.example.com", "x.eu.example.com/a:1", False),
        ("example.com:5000", "example.com:5000/a", True),
        ("example.com:5000", "example.com:5001/a", False),
        ("example.com", "example.com:5000/a", True),
        ("quay.io", "ghcr.io/a/b", False),
    ],
)
def test_a_credential_fits_its_registry_and_no_other(server, image, fits):
    assert users(image, config(**{server: "me"})) == (["me"] if fits else [])


def test_the_more_specific_credential_is_tried_first_and_each_once():
    secrets = [
        config(**{"ghcr.io": "wide"}),
        config(**{"ghcr.io/a/b": "narrow", "ghcr.io": "wide"}),
    ]
    assert users("ghcr.io/a/b:1", *secrets) == ["narrow", "wide"]


def test_the_old_form_and_the_joined_form_of_a_password_are_read():
    joined = base64.b64encode(b"me:pass:word").decode()
    old = {".dockercfg": json.dumps({"ghcr.io": {"auth": joined}}).encode()}
    (auth,) = auths_for("ghcr.io/a", credentials_in([old]))
    assert (auth.username, auth.password) == ("me", "pass:word")
    assert "pass:word" not in repr(auth)


@given(
    st.dictionaries(st.sampled_from([".dockerconfigjson", ".dockercfg"]), st.binary(max_size=40))
)
def test_no_secret_is_too_broken(content):
    assert credentials_in([content, config(**{"ghcr.io": "me"})])[-1].auth.username == "me"
