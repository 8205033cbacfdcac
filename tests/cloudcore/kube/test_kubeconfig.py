from __future__ import annotations

import base64
import ssl

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloudcore.kube import kubeconfig
from cloudcore.kube.kubeconfig import load_endpoint
from corekit.errors import ConfigError
from corekit.pki import Authority, KeyPair


@pytest.fixture
def config(tmp_path):
    """A kubeconfig as a tree to change, with a function that loads it."""
    authority = Authority(tmp_path, "test CA")
    pair = KeyPair(tmp_path / "user.crt", tmp_path / "user.key")
    authority.issue(pair, "armadillo:cloudcore")
    return Config(tmp_path)


class Config:
    def __init__(self, folder):
        self.folder = folder
        self.cluster = {"server": "https://127.0.0.1:6443", "certificate-authority": "ca.crt"}
        self.user = {"client-certificate": "user.crt", "client-key": "user.key"}

    def load(self):
        tree = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": self.cluster}],
            "users": [{"name": "u", "user": self.user}],
        }
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump(tree))
        return load_endpoint(str(path))


async def test_certificate_files_are_relative_to_the_kubeconfig(config):
    endpoint = config.load()
    assert endpoint.server == "https://127.0.0.1:6443"
    assert endpoint.tls.verify_mode is ssl.CERT_REQUIRED
    assert endpoint.tls.check_hostname
    assert await endpoint.authorize() is None


async def test_embedded_certificates_and_a_token_are_read(config):
    def embed(name):
        return base64.b64encode((config.folder / name).read_bytes()).decode()

    config.cluster = {"server": "https://h/", "certificate-authority-data": embed("ca.crt")}
    config.user = {
        "client-certificate-data": embed("user.crt"),
        "client-key-data": embed("user.key"),
        "token": "abc",
    }
    endpoint = config.load()
    assert endpoint.server == "https://h"
    assert await endpoint.authorize() == "Bearer abc"


async def test_a_token_file_is_read_again(config, monkeypatch):
    monkeypatch.setattr(kubeconfig, "TOKEN_REREAD_S", 0.0)
    (config.folder / "token").write_text("one\n")
    config.user = {"tokenFile": "token"}
    endpoint = config.load()
    assert await endpoint.authorize() == "Bearer one"
    (config.folder / "token").write_text("two\n")
    assert await endpoint.authorize() == "Bearer two"
    (config.folder / "token").unlink()
    assert await endpoint.authorize() == "Bearer two"


@pytest.mark.timeout(20)
async def test_an_exec_plugin_is_asked_through_the_official_client(config):
    plugin = config.folder / "plugin"
    said = (
        '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1",'
        '"status":{"token":"from-plugin"}}'
    )
    plugin.write_text(f"#!/bin/sh\necho '{said}'\n")
    plugin.chmod(0o755)
    version = "client.authentication.k8s.io/v1"
    config.user = {"exec": {"apiVersion": version, "command": str(plugin)}}
    endpoint = config.load()
    assert await endpoint.authorize() == "Bearer from-plugin"
    assert await endpoint.authorize() == "Bearer from-plugin"


@pytest.mark.parametrize(
    ("part", "entry", "named"),
    [
        ("cluster", {"server": "http://h"}, "is not an https URL"),
        ("cluster", {"insecure-skip-tls-verify": True}, "insecure-skip-tls-verify"),
        ("cluster", {"certificate-authority": "nowhere.crt"}, "nowhere.crt cannot be read"),
        ("cluster", {"certificate-authority": "user.key"}, "is not a PEM certificate"),
        ("cluster", {"certificate-authority": "a\0b"}, "cannot be a file"),
        ("cluster", {"certificate-authority-data": "%%"}, "is not base64"),
        ("cluster", {"certificate-authority-data": "é"}, "is not base64"),
        ("cluster", {"tls-server-name": ["h"]}, "is not a text"),
        ("user", {"client-key": "ca.key"}, "does not go with client-key"),
        ("user", {"client-certificate": "ca.crt", "client-key": "locked.key"}, "does not go with"),
        ("user", {"tokenFile": "binary"}, "is not text"),
        ("user", {"username": "u"}, "is not supported"),
    ],
)
def test_what_cannot_be_used_is_named(config, part, entry, named):
    (config.folder / "binary").write_bytes(b"\xff")
    (config.folder / "locked.key").write_bytes(locked_key())  # OpenSSL must not ask the terminal
    getattr(config, part).update(entry)
    with pytest.raises(ConfigError, match=named):
        config.load()


def locked_key():
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


@pytest.mark.parametrize("text", ["", "[", "a: 1", "current-context: x\ncontexts: 7"])
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path, text):
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(ConfigError, match=str(path)):
        load_endpoint(str(path))


def test_without_any_source_the_setting_is_named(monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(ConfigError, match=r"kube\.kubeconfig"):
        load_endpoint("")


def test_a_kubeconfig_that_is_not_there_is_named_once(tmp_path):
    path = tmp_path / "kubeconfig"
    with pytest.raises(ConfigError) as caught:
        load_endpoint(str(path))
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"
