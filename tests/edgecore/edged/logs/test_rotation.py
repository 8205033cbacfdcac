from __future__ import annotations

import gzip

import pytest

from edgecore.edged.logs.links import link_folder, make_link, remove_dead_links
from edgecore.edged.logs.rotation import needs_rotation, put_aside, remove_old_attempts, rotated
from edgecore.edged.logs.rotator import LogRotator
from edgecore.edged.runtime import (
    ContainerConfig,
    PodIdentity,
    RuntimeUnavailableError,
    SandboxConfig,
)
from edgecore.settings import PodSettings
from tests.fakes.runtime import FakeRuntime

POD = PodIdentity("default", "web", "u-1")
NOON = 1_790_000_000.0  # 2026-09-21 14:13:20


def texts(log):
    return [
        gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes()
        for f in rotated(log)
    ]


def test_a_log_is_put_aside_the_one_before_is_packed_and_the_oldest_goes(tmp_path):
    log = tmp_path / "0.log"
    for number in range(6):
        log.write_bytes(b"%d" % number)
        put_aside(log, 5, NOON + number)
    assert [f.name for f in rotated(log)] == [
        "0.log.20260921-141322.gz",
        "0.log.20260921-141323.gz",
        "0.log.20260921-141324.gz",
        "0.log.20260921-141325",
    ]  # with 0.log itself that is five
    assert texts(log) == [b"2", b"3", b"4", b"5"]


def test_two_in_one_second_do_not_lose_one(tmp_path):
    log = tmp_path / "0.log"
    for number in range(3):
        log.write_bytes(b"%d" % number)
        put_aside(log, 5, NOON)
    assert texts(log) == [b"0", b"1", b"2"]


def test_what_an_interrupted_pass_left_is_cleared(tmp_path):
    log = tmp_path / "0.log"
    log.write_bytes(b"new")
    (tmp_path / "0.log.20260921-141310.gz.tmp").write_bytes(b"half")
    (tmp_path / "0.log.20260921-141310").write_bytes(b"old")
    put_aside(log, 5, NOON)
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "0.log.20260921-141310.gz",
        "0.log.20260921-141320",
    ]


def test_only_a_log_that_has_grown_is_rotated(tmp_path):
    assert not needs_rotation(tmp_path / "none", 1)
    (tmp_path / "0.log").write_bytes(b"x" * 9)
    assert not needs_rotation(tmp_path / "0.log", 10)
    assert needs_rotation(tmp_path / "0.log", 9)


@pytest.fixture
async def running(clock, tmp_path):
    """A runtime with one container, and its log file of 2 KiB."""
    runtime = FakeRuntime(clock, "busybox:1")
    config = SandboxConfig(POD, 0, "web", str(tmp_path), {}, {})
    sandbox = await runtime.run_sandbox(config)
    made = await runtime.create_container(sandbox, ContainerConfig("app", 0, "busybox:1"), config)
    await runtime.start_container(made)
    log = tmp_path / "default_web_u-1/app/0.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"x" * 2048)
    settings = PodSettings(log_dir=str(tmp_path), container_log_max_size="2Ki")
    return runtime, log, made, LogRotator(settings, runtime, clock=clock)


async def test_the_runtime_is_told_to_open_a_new_log(running):
    runtime, log, made, rotator = running
    await rotator.look()
    assert not log.exists()
    assert len(rotated(log)) == 1
    assert ("reopen_log", made) in runtime.calls
    await rotator.look()
    assert len(rotated(log)) == 1


async def test_a_log_that_cannot_be_opened_again_keeps_its_name(running):
    runtime, log, _made, rotator = running

    async def refuse(container_id):
        raise RuntimeUnavailableError("not now")

    runtime.reopen_log = refuse
    with pytest.raises(RuntimeUnavailableError):
        await rotator.look()
    assert log.read_bytes() == b"x" * 2048


def test_links_have_kubelets_names_and_go_with_their_logs(tmp_path):
    links, logs = tmp_path / "containers", tmp_path / "pods"
    log = logs / "default_web_u-1/app/0.log"
    log.parent.mkdir(parents=True)
    log.touch()
    make_link(links, POD, "app", "abc", log)
    make_link(links, POD, "app", "abc", log)
    (links / "others.log").symlink_to("/nowhere/x.log")
    assert (links / "web_default_app-abc.log").resolve() == log
    assert remove_dead_links(links, logs, ()) == 0
    log.unlink()
    assert remove_dead_links(links, logs, {"abc"}) == 0  # its log may just be put aside
    assert remove_dead_links(links, logs, ()) == 1
    assert [entry.name for entry in links.iterdir()] == ["others.log"]


def test_logs_go_with_their_containers_but_not_those_of_the_next_attempt(tmp_path):
    names = ["0.log", "0.log.20260921-141320.gz", "1.log", "2.log", "3.log", "notes.txt"]
    for name in names:
        (tmp_path / name).touch()
    assert remove_old_attempts(tmp_path, {1, 2}) == 2
    assert sorted(f.name for f in tmp_path.iterdir()) == ["1.log", "2.log", "3.log", "notes.txt"]


def test_links_are_made_where_the_logs_are_kubelets():
    assert str(link_folder("auto", "/var/log/pods")) == "/var/log/containers"
    assert link_folder("auto", "/srv/logs") is None
    assert link_folder("", "/var/log/pods") is None
    assert str(link_folder("/srv/links", "/srv/logs")) == "/srv/links"
