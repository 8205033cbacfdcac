"""What systemd is told, on a socket as it has one."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from corekit.lifecycle import run_components
from corekit.servicemanager import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """systemd's socket and the address that it gives to services."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = str(tmp_path / "notify")
        listening.bind(name if request.param == "path" else f"\0{name}")
        listening.settimeout(5)
        yield listening, name if request.param == "path" else f"@{name}"


def told(listening):
    return listening.recv(4096).decode()


def test_states_reach_the_manager_and_children_inherit_nothing(manager):
    listening, address = manager
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1", "A": "b"}
    service = ServiceManager(environment)
    assert environment == {"A": "b"}
    service.ready()
    service.stopping()
    assert (told(listening), told(listening)) == ("READY=1", "STOPPING=1")


async def test_signs_of_life_come_while_the_loop_turns(manager):
    listening, address = manager
    watched = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000", "WATCHDOG_PID": str(os.getpid())}
    signs = asyncio.create_task(ServiceManager(watched).keep_alive())
    for _ in range(3):
        assert await asyncio.to_thread(told, listening) == "WATCHDOG=1"
    signs.cancel()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": "/run/nobody/notify"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"},
    ],
)
async def test_where_nobody_watches_nothing_is_waited_for(environment):
    service = ServiceManager(environment)
    service.ready()
    await service.keep_alive()


class Part:
    name = "part"

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc_info):
        pass

    async def run(self):
        await asyncio.Event().wait()


async def test_a_daemon_says_that_it_serves_and_that_it_ends(manager, monkeypatch):
    listening, address = manager
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    stop = asyncio.Event()
    running = asyncio.create_task(run_components([Part()], stop))
    assert await asyncio.to_thread(told, listening) == "READY=1"
    stop.set()
    assert await asyncio.to_thread(told, listening) == "STOPPING=1"
    await running
