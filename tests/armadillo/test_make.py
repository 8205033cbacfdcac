"""`make down` and `make clean` with nothing there, with another state folder, and without an environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Stands for the real one, which takes a minute: says what it was asked to run, and purges as it would.
BOOTSTRAP = """#!/bin/sh
echo "$@" >>ran
case "$*" in
    *" down --state "*" --purge") for last; do [ "$last" = --purge ] || folder=$last; done; rm -rf "$folder" ;;
esac
"""

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def tree(tmp_path):
    """A checkout: the Makefile and its scripts, with a bootstrap that makes nothing."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "deploy" / "bootstrap.sh").write_text(BOOTSTRAP)
    return tmp_path


def make(tree, *args):
    # Not what `make test ARGS=...` says to its own makes.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "ARGS"}
    return subprocess.run(
        ["make", *args], cwd=tree, env=environment, capture_output=True, text=True, timeout=20
    )


def ran(tree):
    path = tree / "ran"
    return path.read_text().splitlines() if path.exists() else []


def test_down_with_nothing_to_stop_says_so_and_makes_no_environment(tree):
    done = make(tree, "down")
    assert (done.returncode, ran(tree)) == (0, [])
    assert done.stderr == "down: nothing to stop: there is no state folder\n"


def test_clean_without_an_environment_or_state_is_quiet_and_done(tree):
    done = make(tree, "clean")
    assert (done.returncode, done.stderr, ran(tree)) == (0, "", [])
    assert make(tree, "clean").returncode == 0


def test_clean_ends_what_runs_in_a_state_folder_even_if_the_environment_is_gone(tree):
    (tree / ".armadillo").mkdir()
    assert make(tree, "clean").returncode == 0
    assert ran(tree) == ["run python -m armadillo down --state .armadillo --purge"]
    assert not (tree / ".armadillo").exists()


def test_down_and_clean_know_the_other_state_folders_that_up_was_given(tree):
    other, third = tree / "other state", tree / "third"
    for folder in (other, third, tree / ".armadillo"):
        folder.mkdir()
    make(tree, "up", f'ARGS=--state "{other}"')
    make(tree, "up", "ARGS=--state=third --nodes 2")
    make(tree, "up", "ARGS=--nodes 2")
    (tree / "ran").unlink()
    down = "run python -m armadillo down --state"
    assert make(tree, "down").returncode == 0
    assert ran(tree) == [f"{down} .armadillo", f"{down} {other}", f"{down} {third}"]
    (tree / "ran").unlink()
    assert make(tree, "clean").returncode == 0
    assert ran(tree) == [f"{down} {f} --purge" for f in (".armadillo", other, third)]
    assert make(tree, "down").stderr == "down: nothing to stop: there is no state folder\n"


def test_down_of_a_folder_that_is_not_there_is_one_line_and_status_2(tree):
    done = make(tree, "down", "ARGS=--state /proc/nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("down: --state: /proc/nothing is not a folder\n")
    assert ran(tree) == []
