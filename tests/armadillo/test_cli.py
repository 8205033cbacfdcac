"""Wrong flags and folders: one line that names what is wrong, exit status 2."""

from __future__ import annotations

import fcntl
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(20)


def armadillo(*args):
    return subprocess.run(
        [sys.executable, "-m", "armadillo", *args], capture_output=True, text=True, timeout=15
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        pytest.param(["up", "--bogus"], "--bogus", id="unknown-flag"),
        pytest.param(["bogus"], "bogus", id="unknown-command"),
        pytest.param(["up", "--nodes", "two"], "--nodes", id="nodes-not-a-number"),
        pytest.param(["up", "--nodes", "0"], "--nodes: 0 is not between 1 and 50", id="no-nodes"),
        pytest.param(["up", "--runtime", "docker"], "auto, cri, process", id="unknown-runtime"),
        pytest.param(
            ["up", "--state", "/proc/nothing"], "--state /proc/nothing", id="no-such-place"
        ),
        pytest.param(["down", "--state", "/proc/nothing"], "--state", id="down-of-nothing"),
    ],
)
def test_a_wrong_flag_is_one_line_and_status_2(args, words):
    done = armadillo(*args)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param("a: [", "is not YAML", id="not-yaml"),
        pytest.param("- 1\n", "is not a kubeconfig", id="not-a-mapping"),
        pytest.param("kind: Config\n", "current-context", id="no-context"),
    ],
)
def test_a_wrong_kubeconfig_is_one_line_and_status_2(tmp_path, content, words):
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    args = ("--state", tmp_path / "s", "--runtime", "process", "--kubeconfig", path)
    done = armadillo("up", *map(str, args))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_a_second_up_on_the_same_state_is_refused_by_name(tmp_path):
    state = tmp_path / "s"
    state.mkdir()
    with (state / "lock").open("w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = armadillo("up", "--state", str(state))
    assert done.returncode == 2
    assert f"--state {state}: is in use by process 4711" in done.stderr


def test_down_leaves_a_folder_alone_that_up_did_not_make(tmp_path):
    (tmp_path / "precious").write_text("mine")
    done = armadillo("down", "--purge", "--state", str(tmp_path))
    assert done.returncode == 2
    assert (tmp_path / "precious").read_text() == "mine"


def test_without_a_command_it_explains_itself():
    done = armadillo()
    assert done.returncode == 0
    assert "up " in done.stdout
