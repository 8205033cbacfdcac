"""Memory of real processes, as the memory benchmark reads it."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.processes import Process, descendants, pss_mib, rss_mib, snapshot

PARENT = (
    "import subprocess, sys;"
    "child = subprocess.Popen([sys.executable, '-c', 'print(1, flush=True); input()']);"
    "child.wait()"
)


def test_a_tree_of_processes_is_found_with_its_memory():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        parent.stdout.readline()
        everyone = snapshot()
        [child] = descendants(everyone, parent.pid)
        assert child.parent == parent.pid
        assert child.executable == str(Path(sys.executable).resolve())
        assert child in descendants(everyone, os.getpid())
        assert 1 < pss_mib([child]) <= rss_mib([child]) < 100
        parent.communicate(b"\n")


def test_the_module_of_a_command_is_what_follows_m():
    def module(*command):
        return Process(1, 0, command, "python", 0, 0).module

    assert module("python", "-P", "-m", "edgecore.broker", "--config", "x") == "edgecore.broker"
    assert module("sh", "-c", "sleep 1") == ""
    assert module() == ""
