from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from corekit.settings import dump_settings
from kubecore.settings import KubecoreSettings, ServeSettings

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def config(certificates, tmp_path):
    """Write a settings file; `address` chooses the port."""

    def write(address="127.0.0.1:0"):
        settings = certificates.settings(tmp_path)
        serve = ServeSettings(
            address,
            settings.serve.cert_file,
            settings.serve.key_file,
            settings.serve.client_ca_file,
        )
        path = tmp_path / "kubecore.yaml"
        path.write_text(dump_settings(KubecoreSettings(serve=serve, store=settings.store)))
        return path

    return write


def run(config_path, timeout_s=15):
    """Run kubecore until it ends by itself."""
    command = [sys.executable, "-m", "kubecore", "--config", str(config_path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def last_line(result):
    return result.stderr.strip().splitlines()[-1]


@contextlib.contextmanager
def started(config_path):
    """Run kubecore; give the process once it serves."""
    command = [sys.executable, "-m", "kubecore", "--config", str(config_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while "serving https://" not in (line := process.stderr.readline()):
            assert line, "ended before it served"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_taken_port_is_one_line_and_status_2(config):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        path = config(address)
        result = run(path)
    assert result.returncode == 2
    expected = (
        f"kubecore: {path}: serve.address: cannot listen on {address}: Address already in use"
    )
    assert last_line(result) == expected
    assert "Traceback" not in result.stderr


def test_a_damaged_state_file_is_one_line_and_status_2(config, tmp_path):
    (tmp_path / "kubecore.db").write_bytes(b"garbage" * 1000)
    result = run(config())
    assert result.returncode == 2
    assert last_line(result).startswith(f"kubecore: {tmp_path / 'kubecore.db'}: is damaged")


def test_a_missing_certificate_is_one_line_that_names_it(config, certificates, tmp_path):
    path = config()
    path.write_text(path.read_text().replace("server.crt", "nothing.crt"))
    result = run(path)
    assert result.returncode == 2
    assert "nothing.crt" in last_line(result)


def test_a_second_kubecore_on_the_same_state_is_refused(config):
    with started(config()):
        result = run(config())
    assert result.returncode == 2
    assert "is in use by another process" in last_line(result)


def test_sigterm_ends_it_cleanly_and_soon(config):
    with started(config()) as process:
        before_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - before_s < 5


async def test_what_was_answered_survives_sigkill(config, certificates, tmp_path):
    from tests.kubecore.server import Server

    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    server = Server(certificates, f"https://{address}")
    path, acknowledged = "/api/v1/namespaces/default/configmaps", []
    with started(config(address)) as process:
        admin = await server.client()

        async def write(worker):
            for i in range(10_000):
                name = f"c{worker}-{i}"
                status, body = await admin.post(path, {"metadata": {"name": name}})
                assert status == 201
                acknowledged.append((name, int(body["metadata"]["resourceVersion"])))

        writers = [asyncio.create_task(write(worker)) for worker in range(8)]
        while len(acknowledged) < 200:
            await asyncio.sleep(0.01)
        process.kill()
        await asyncio.gather(*writers, return_exceptions=True)
    with started(config(address)):
        _, listed = await admin.get(path)
    await server.close()
    stored = {item["metadata"]["name"] for item in listed["items"]}
    assert {name for name, _ in acknowledged} <= stored
    assert int(listed["metadata"]["resourceVersion"]) > max(v for _, v in acknowledged)
