"""Peers of drivers: real servers of each protocol, each in a process of its own."""

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

PEERS = Path(__file__).parent / "peers"


@contextlib.contextmanager
def peer(script):
    """Run a server of `peers/`; give its port once somebody answers on it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(PEERS / script), str(port)])
    try:
        deadline_s = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, f"{script} ended"
                assert time.monotonic() < deadline_s, f"{script} does not listen"
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def modbus_port():
    with peer("modbus_server.py") as port:
        yield port


@pytest.fixture(scope="session")
def opcua_port():
    with peer("opcua_server.py") as port:
        yield port


@pytest.fixture
def http_port():
    with peer("http_server.py") as port:
        yield port
