from __future__ import annotations

import contextlib
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.errors import ConfigError
from edgecore.app import credential_providers
from edgecore.edged.images.providerconfig import parse_duration, parse_providers, read_providers
from edgecore.settings import PodSettings

ECR = {
    "name": "ecr",
    "matchImages": ["*.dkr.ecr.*.amazonaws.com", "registry.io:8080/path"],
    "defaultCacheDuration": "12h",
    "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
    "args": ["get"],
    "env": [{"name": "REGION", "value": "eu"}],
}


def document(*providers, **changes):
    head = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig"}
    return json.dumps({**head, "providers": list(providers), **changes}).encode()


def test_a_config_of_upstreams_form_is_taken():
    text = b"""
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
  - name: ecr
    matchImages: ["*.dkr.ecr.*.amazonaws.com"]
    defaultCacheDuration: "12h"
    apiVersion: credentialprovider.kubelet.k8s.io/v1
    args: [get]
    env: [{name: REGION, value: eu}]
"""
    (provider,) = parse_providers("c.yaml", text)
    assert (provider.name, provider.args, provider.default_keep_s) == ("ecr", ("get",), 43200.0)
    assert [(v.name, v.value) for v in provider.env] == [("REGION", "eu")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "c.yaml: is not YAML"),
        (b"", "c.yaml: document: Expected `object`, got `null`"),
        (b"x" * (1 << 20) + b"x", "c.yaml: larger than 1048576 bytes"),
        (document(ECR, kind="Config"), "c.yaml: kind: 'Config' is not CredentialProviderConfig"),
        (document(ECR, apiVersion="v2"), "c.yaml: apiVersion: 'v2' is not one of kubelet.config"),
        (document(), "c.yaml: providers: is empty"),
        (document(ECR, ECR), "c.yaml: providers[1].name: 'ecr' is there twice"),
        (document(ECR | {"tokenAttributes": {}}), "contains unknown field `tokenAttributes`"),
    ],
)
def test_a_config_that_cannot_be_taken_is_one_line_that_says_where(content, says):
    with pytest.raises(ConfigError) as caught:
        parse_providers("c.yaml", content)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("name", "../ecr", "name: '../ecr' is not the name of a program"),
        ("name", "/bin/ecr", "name: '/bin/ecr' is not the name"),
        ("name", "..", "name: '..' is not the name"),
        ("name", "a b", "name: 'a b' is not the name"),
        ("name", "", "name: '' is not the name"),
        ("apiVersion", "v1", "apiVersion: 'v1' is not one of credentialprovider.kubelet.k8s.io/v1"),
        ("matchImages", [], "matchImages: is empty"),
        ("matchImages", ["https://ghcr.io"], "matchImages: 'https://ghcr.io' is not a host"),
        ("matchImages", ["ghcr.io:x"], "matchImages: 'ghcr.io:x' is not a host"),
        ("matchImages", ["a b"], "matchImages: 'a b' is not a host"),
        ("defaultCacheDuration", "-1h", "defaultCacheDuration: '-1h' is not a duration"),
        ("defaultCacheDuration", "1 h", "defaultCacheDuration: '1 h' is not a duration"),
        ("defaultCacheDuration", 5, "defaultCacheDuration: Expected `str`, got `int`"),
        ("env", [{"name": "A=B", "value": ""}], "env: 'A=B' cannot be the name"),
    ],
)
def test_a_wrong_field_of_a_provider_is_named_with_its_place(key, value, says):
    with pytest.raises(ConfigError) as caught:
        parse_providers("c.yaml", document(ECR | {"name": "first"}, ECR | {key: value}))
    assert str(caught.value).startswith(f"c.yaml: providers[1].{says}") or str(
        caught.value
    ).startswith(f"c.yaml: providers[...].{says}")


def test_only_a_program_that_lies_in_the_folder_and_may_run_is_taken(tmp_path):
    folder, config = tmp_path / "bin", tmp_path / "c.yaml"

    def refused():
        with pytest.raises(ConfigError) as caught:
            read_providers(config, folder)
        return str(caught.value)

    assert refused() == (
        f"settings: pods.image_credential_provider_config: {config}: No such file or directory"
    )
    config.write_bytes(document(ECR))
    assert refused() == f"settings: pods.image_credential_provider_bin_dir: {folder}: is no folder"
    folder.mkdir()
    assert refused() == f"{config}: providers[0].name: {folder}/ecr: there is no such program"
    (folder / "ecr").write_text("#!/bin/sh\n")
    assert refused() == f"{config}: providers[0].name: {folder}/ecr: may not be executed"
    (folder / "ecr").chmod(0o755)
    assert [p.name for p in read_providers(config, folder)] == ["ecr"]
    (folder / "ecr").rename(tmp_path / "elsewhere")
    (folder / "ecr").symlink_to(tmp_path / "elsewhere")
    assert refused() == (
        f"{config}: providers[0].name: {folder}/ecr lies outside {folder}: "
        f"it is a link to {tmp_path}/elsewhere"
    )


@pytest.mark.timeout(60)
def test_the_agent_does_not_start_with_a_program_outside_the_folder(tmp_path):
    config, settings = tmp_path / "providers.yaml", tmp_path / "settings.yaml"
    config.write_bytes(document(ECR | {"name": "../ecr"}))
    pods = {
        "root_dir": str(tmp_path / "pods"),
        "runtime": "process",
        "image_credential_provider_config": str(config),
        "image_credential_provider_bin_dir": str(tmp_path),
    }
    settings.write_text(json.dumps({"pods": pods, "store": {"path": str(tmp_path / "edge.db")}}))
    done = subprocess.run(
        [sys.executable, "-m", "edgecore", "--config", settings],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"edgecore: {config}: providers[0].name: '../ecr' is not the name of a program in "
        "pods.image_credential_provider_bin_dir"
    )
    assert "Traceback" not in done.stderr


def test_without_the_setting_there_are_no_providers_and_one_half_of_it_is_refused():
    assert credential_providers(PodSettings()) is None
    with pytest.raises(ValueError, match="one needs the other"):
        PodSettings(image_credential_provider_config="/c.yaml")
    with pytest.raises(ValueError, match="one needs the other"):
        PodSettings(image_credential_provider_bin_dir="/bin")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("0s", 0), ("1h30m", 5400), ("1.5h", 5400), ("250ms", 0.25)]
)
def test_durations_are_read_as_go_writes_them(text, seconds):
    assert parse_duration(text) == seconds


@given(st.binary(max_size=60) | st.builds(lambda v: json.dumps(v).encode(), st.text()))
def test_no_config_ends_in_anything_but_its_error(content):
    with pytest.raises(ConfigError):
        parse_providers("c.yaml", content)


@given(st.text("0123456789.hmsu ", max_size=12))
def test_what_is_no_duration_says_so(text):
    with contextlib.suppress(ValueError):
        assert parse_duration(text) >= 0
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(f"{text}!")
