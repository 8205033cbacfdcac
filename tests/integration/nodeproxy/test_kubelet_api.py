"""The kubelet's API of a node: TLS, the stream to the node, its agent and a real containerd; only the cluster is a fake."""

from __future__ import annotations

import pytest

from tests.fakes.pods import container

pytestmark = [pytest.mark.containerd, pytest.mark.timeout(90)]

IMAGE = "docker.io/library/busybox:latest"
FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def shell(script, name="main", **fields):
    return container(name, IMAGE, command=["/bin/sh", "-c", script], **fields)


async def test_logs_of_a_container_come_as_text(rig):
    async with rig.running():
        rig.put_pod("web", shell(f"echo one; echo two >&2; {FOREVER}"))
        await rig.phase("web", "Running")
        text = ""
        while text.count("\n") < 2:
            status, text = await rig.get("/containerLogs/default/web/main")
            assert status == 200
        assert sorted(text.splitlines()) == ["one", "two"]


async def test_a_command_runs_with_its_streams_and_its_exit_code(rig):
    async with rig.running():
        rig.put_pod("web", shell(FOREVER))
        await rig.phase("web", "Running")
        script = "tr a-z A-Z; echo oops >&2; exit 3"
        status, out, err = await rig.run("web", "main", "sh", "-c", script, content=b"hello\n")
        assert (out, err) == (b"HELLO\n", b"oops\n")
        assert status["details"]["causes"][0] == {"reason": "ExitCode", "message": "3"}
