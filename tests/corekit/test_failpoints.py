import os
import signal
import subprocess
import sys

import pytest

from corekit.errors import ConfigError
from corekit.failpoints import VARIABLE, failpoint, parse_plan

LOOP = "from corekit.failpoints import failpoint\nfor n in range(5): print(n, flush=True); failpoint('here')"


def run(plan):
    environment = {**os.environ, VARIABLE: plan}
    return subprocess.run(
        [sys.executable, "-c", LOOP], env=environment, capture_output=True, text=True
    )


def test_without_a_plan_nothing_happens():
    failpoint("anywhere")


@pytest.mark.timeout(20)
def test_a_process_dies_at_the_named_hit_and_not_before():
    ended = run("elsewhere=kill@1;here=kill@3")
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.split() == ["0", "1", "2"]


@pytest.mark.timeout(20)
def test_a_process_sleeps_and_goes_on():
    ended = run("here=sleep:1")
    assert ended.returncode == 0
    assert ended.stderr.count("failpoint here: sleep at hit") == 5


@pytest.mark.parametrize("text", ["here", "here=explode", "here=kill@x", "here=sleep:long"])
def test_a_plan_that_means_nothing_is_named(text):
    with pytest.raises(ConfigError, match="is not NAME=kill"):
        parse_plan(text)
