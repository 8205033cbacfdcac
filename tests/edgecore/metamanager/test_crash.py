"""SIGKILL under load: every commit that returned is there, and no transaction is there in half."""

import random
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from edgecore.metamanager.store import MetaStore
from synccore.messages import Lane, ObjectKey

WRITER = """
import asyncio, os, sys
from pathlib import Path
from edgecore.metamanager.store import MetaStore
from edgecore.records import Commit, Report
from synccore.messages import Delta, Lane, ObjectKey, Op

async def write(store, worker):
    number = 0
    while True:
        number += 1
        key = ObjectKey("Pod", "default", f"{worker}-{number}")
        body = str(number).encode() * 50
        delta = Delta(Op.UPSERT, key, "u", number, body=body)
        state = Report(ObjectKey("Node", "", str(worker)), "u", body, Lane.PODS)
        await store.commit(Commit([delta], [state], {(str(worker), "last"): body}))
        os.write(1, f"{worker} {number}\\n".encode())

async def main():
    async with MetaStore(Path(sys.argv[1])) as store:
        await asyncio.gather(*(write(store, worker) for worker in range(8)))

asyncio.run(main())
"""


@pytest.mark.timeout(60)
async def test_every_commit_that_returned_survives_sigkill(path):
    seed = random.randrange(1 << 32)
    print("seed", seed)  # noqa: T201 - shown by pytest when it fails
    rng = random.Random(seed)
    for _ in range(4):
        returned = kill_a_writer(path, after_s=rng.uniform(0.0, 0.4))
        async with MetaStore(path) as store:
            waiting = {
                row.report.key.name: row.report.body
                for row in await store.unsent(Lane.PODS, 0, 100, 1 << 20)
            }
            for worker, last in returned.items():
                for number in range(1, last + 1):
                    assert store.index.version(ObjectKey("Pod", "default", f"{worker}-{number}"))
                # The same transaction wrote all three, so they agree even beyond what returned.
                assert waiting[worker] == (await store.local(worker))["last"]
        path.unlink()


def kill_a_writer(path, after_s):
    """Start a process that commits as fast as it can, kill it, return the last number of each worker."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True
    )
    with process, suppress(ValueError):
        lines = [process.stdout.readline()]  # it is at work
        time.sleep(after_s)
        process.kill()
        lines += process.stdout.readlines()
    returned = {}
    for line in lines:
        worker, number = line.split()
        returned[worker] = int(number)
    return returned
