"""Certificates: made once, verified by real TLS, made again when they no longer fit."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from corekit.errors import ConfigError
from corekit.pki import Authority, KeyPair


def pair(folder, name):
    return KeyPair(folder / f"{name}.crt", folder / f"{name}.key")


async def test_both_ends_of_a_real_connection_trust_the_authority_and_see_the_name(tmp_path):
    authority = Authority(tmp_path, "test")
    server = authority.issue(pair(tmp_path, "server"), "server", hosts=("127.0.0.1", "localhost"))
    client = authority.issue(
        pair(tmp_path, "node"), "system:node:edge-1", organizations=("system:nodes",)
    )
    server_tls = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=authority.pair.cert_file
    )
    server_tls.verify_mode = ssl.CERT_REQUIRED
    server_tls.load_cert_chain(server.cert_file, server.key_file)
    client_tls = ssl.create_default_context(cafile=authority.pair.cert_file)
    client_tls.load_cert_chain(client.cert_file, client.key_file)
    seen = asyncio.get_running_loop().create_future()

    def serve(_reader, writer):
        seen.set_result(writer.get_extra_info("peercert")["subject"])
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_tls) as listener:
        port = listener.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("localhost", port, ssl=client_tls)
        names = dict(entry[0] for entry in await seen)
        writer.close()
    assert names == {"commonName": "system:node:edge-1", "organizationName": "system:nodes"}


def test_a_certificate_is_issued_once_and_again_when_its_hosts_grow(tmp_path):
    authority = Authority(tmp_path, "test")
    files = pair(tmp_path, "server")
    first = authority.issue(files, "server", hosts=("127.0.0.1",)).cert_file.read_bytes()
    again = Authority(tmp_path, "test").issue(files, "server", hosts=("127.0.0.1",))
    assert again.cert_file.read_bytes() == first
    grown = authority.issue(files, "server", hosts=("127.0.0.1", "10.0.0.1"))
    assert grown.cert_file.read_bytes() != first


def test_a_certificate_of_another_authority_is_replaced(tmp_path):
    files = pair(tmp_path / "leaf", "node")
    stranger = Authority(tmp_path / "a", "a").issue(files, "node").cert_file.read_bytes()
    assert Authority(tmp_path / "b", "b").issue(files, "node").cert_file.read_bytes() != stranger


def test_keys_are_for_their_owner_alone(tmp_path):
    authority = Authority(tmp_path / "pki", "test")
    assert authority.pair.key_file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "pki").stat().st_mode & 0o777 == 0o700


def test_half_an_authority_is_refused_not_replaced(tmp_path):
    Authority(tmp_path, "test").pair.cert_file.unlink()
    with pytest.raises(ConfigError, match=r"only one of ca\.crt and ca\.key"):
        Authority(tmp_path, "test")
