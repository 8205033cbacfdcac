"""Settings: strict, and every mistake is one line that names file and key."""

from __future__ import annotations

import pytest

from cloudcore.settings import CloudSettings
from corekit.errors import ConfigError
from corekit.settings import dump_settings, load_settings
from edgecore.settings import EdgeSettings
from kubecore.settings import KubecoreSettings


@pytest.mark.parametrize("shape", [CloudSettings, EdgeSettings, KubecoreSettings])
def test_printed_defaults_load_as_the_defaults(tmp_path, shape):
    path = tmp_path / "settings.yaml"
    path.write_text(dump_settings(shape()))
    assert load_settings(path, shape) == shape()


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("hub: {addres: x}", "hub.addres", "did you mean 'address'"),
        ("hub: {heartbeat_s: soon}", "hub.heartbeat_s", "Expected `float`, got `str`"),
        ("hub: [1]", "hub", "expected a mapping, got a list"),
        ("- 1", "document", "expected a mapping"),
        ("log: {format: xml}", "log", "'xml' is not one of human, json"),
        ("hub: {", "", "is not YAML"),
    ],
)
def test_a_wrong_setting_names_file_and_key(tmp_path, text, key, problem):
    path = tmp_path / "cloud.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(path, CloudSettings)
    assert (caught.value.source, caught.value.key) == (str(path), key)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_settings(tmp_path / "none.yaml", CloudSettings)


def test_an_empty_file_means_the_defaults(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_settings(path, CloudSettings) == CloudSettings()


def test_by_default_nothing_listens_but_the_port_that_asks_for_a_nodes_certificate():
    cloud, edge, kube = CloudSettings(), EdgeSettings(), KubecoreSettings()
    assert cloud.hub.address == "0.0.0.0:10000"
    asked_for = (
        *(cloud.values.address, cloud.values.token_address, cloud.metrics.address),
        *(cloud.nodeproxy.advertise_address, edge.dmi.socket, edge.metrics.socket),
    )
    assert set(asked_for) == {""}
    local = (edge.broker.embedded_address, kube.serve.address)
    assert all(address.startswith("127.0.0.1:") for address in local)
