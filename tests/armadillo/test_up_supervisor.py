"""Real child processes: restarted, given up, stopped in order, and found again after a kill."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys

import pytest

from armadillo.up.console import Console
from armadillo.up.errors import UpError
from armadillo.up.processes import end_leftovers, read_pid_file, started, write_pid_file
from armadillo.up.readiness import Readiness
from armadillo.up.supervisor import Program, Supervisor

pytestmark = pytest.mark.timeout(20)
STOPS = "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); signal.pause()"
DEAF = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"


def program(name, code, stage=0):
    return Program(name, (sys.executable, "-c", code), stage)


async def until(predicate):
    async with asyncio.timeout(10):
        while not predicate():
            await asyncio.sleep(0.02)


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def supervisor(tmp_path, out):
    return Supervisor(logs=tmp_path / "logs", run=tmp_path / "run", console=Console(out))


async def test_a_child_that_dies_is_started_again_and_its_last_lines_are_shown(supervisor, out):
    async with supervisor:
        child = await supervisor.start(program("moody", "print('enough'); raise SystemExit(3)"))
        await until(lambda: child.restarts >= 1)
    assert "moody ended with status 3, starting it again in" in out.getvalue()
    assert "    enough" in out.getvalue()


async def test_a_killed_child_is_a_new_process_afterwards(supervisor, tmp_path):
    async with supervisor:
        child = await supervisor.start(program("steady", STOPS))
        first = child.process.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.restarts == 1 and child.alive)
        assert read_pid_file(tmp_path / "run" / "steady.pid") == child.process.pid != first


async def test_a_wrong_setting_is_not_tried_again(supervisor, out):
    async with supervisor:
        child = await supervisor.start(program("strict", "raise SystemExit(2)"))
        await until(lambda: child.gave_up)
        with pytest.raises(UpError, match="strict cannot start"):
            await Readiness(supervisor, Console(out), 60.0).wait("strict", "strict", never)
    assert child.restarts == 0


async def test_children_stop_in_reverse_order_of_stages(supervisor, tmp_path):
    order = tmp_path / "order"
    code = (
        "import signal, sys\n"
        "def end(*_):\n"
        "    open({path!r}, 'a').write({name!r} + ' ')\n"
        "    sys.exit(0)\n"
        "signal.signal(15, end); print('up', flush=True); signal.pause()"
    )
    async with supervisor:
        for stage, name in enumerate(("api", "cloud", "edge")):
            text = code.format(path=str(order), name=name)
            child = await supervisor.start(program(name, text, stage))
            await until(lambda log=child.log: "up" in log.read_text())
    assert order.read_text().split() == ["edge", "cloud", "api"]


async def test_a_child_that_ignores_sigterm_is_killed_and_named(supervisor, out):
    async with supervisor:
        child = await supervisor.start(program("deaf", DEAF))
        await until(lambda: "up" in child.log.read_text())
    assert child.process.returncode == -signal.SIGKILL
    assert "deaf did not stop in 4 s: killed" in out.getvalue()


async def test_a_deadline_names_what_is_not_ready_and_shows_its_log(supervisor, out):
    async with supervisor:
        child = await supervisor.start(program("slow", STOPS))
        await until(lambda: "up" in child.log.read_text())
        with pytest.raises(
            UpError, match=r"slow is not ready: not yet(.|\n)*slow\.log(.|\n)*    up"
        ):
            await Readiness(supervisor, Console(out), 0.0).wait("slow", "slow", never)


async def never():
    return "not yet"


def test_what_a_killed_run_left_is_ended(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", STOPS], start_new_session=True)
    write_pid_file(tmp_path / "left.pid", process.pid)
    assert end_leftovers(tmp_path) == ["left"]
    process.wait(5)
    assert not list(tmp_path.glob("*.pid"))


def test_a_recycled_process_number_is_not_taken_for_ours(tmp_path):
    path = tmp_path / "recycled.pid"
    write_pid_file(path, os.getpid())
    path.write_text(path.read_text().replace(started(os.getpid()), "another boot/1"))
    assert read_pid_file(path) is None
    assert end_leftovers(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x", "started": 1}', '{"pid": 1}'])
def test_a_damaged_pid_file_ends_nothing(tmp_path, content):
    path = tmp_path / "damaged.pid"
    path.write_text(content)
    assert read_pid_file(path) is None
