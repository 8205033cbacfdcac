"""The kubelet's API of a node: TLS, the stream to the node, its agent and a real containerd; only the cluster is a fake."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.nodeproxy import quoted
from tests.fakes.pods import container
from tests.fakes.spdy import Run

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


async def test_a_terminal_has_one_stream_and_takes_its_size(rig):
    async with rig.running():
        rig.put_pod("web", shell(FOREVER))
        await rig.phase("web", "Running")
        path = "/exec/default/web/main?command=sh&input=1&output=1&tty=1"
        client = await rig.dial(path)
        run = Run(client, stdin=True, tty=True)
        await client.send(run.resize, b'{"Width":77,"Height":33}')
        await client.send(
            run.stdin, b"until [ \"$(stty size)\" = '33 77' ]; do :; done; echo si''ze ok; exit\n"
        )
        await run.finished()
        assert b"size ok" in run.stdout.content
        await client.close()


async def test_attach_reads_and_writes_the_process_itself(rig):
    async with rig.running():
        rig.put_pod("web", shell("read line; echo got $line; sleep 1000", stdin=True))
        await rig.phase("web", "Running")
        client = await rig.dial("/attach/default/web/main?input=1&output=1&error=1")
        run = Run(client, stdin=True)
        await client.send(run.stdin, b"hello\n")
        await client.until(lambda: b"got hello\n" in run.stdout.content)
        await client.close()


async def test_ports_of_a_pod_are_forwarded_side_by_side(rig):
    async with rig.running():
        rig.put_pod(
            "web", shell(f"mkdir /w; echo -n page >/w/index.html; httpd -p 8080 -h /w; {FOREVER}")
        )
        await rig.phase("web", "Running")
        client = await rig.dial("/portForward/default/web", protocols=("portforward.k8s.io",))
        for number in range(3):
            while True:
                headers = {"port": 8080, "requestid": number}
                error = client.open(stream_type="error", **headers)
                content = client.open(stream_type="data", **headers)
                await client.send(content, b"GET / HTTP/1.0\r\n\r\n", end=True)
                await client.until(
                    lambda c=content, e=error: c.ended or c.reset is not None or e.content
                )
                if content.content:  # the server in the pod may not listen yet
                    break
            assert bytes(content.content).endswith(b"page")
        await client.close()


async def test_a_websocket_client_runs_a_command_too(rig):
    async with rig.running():
        rig.put_pod("web", shell(FOREVER))
        await rig.phase("web", "Running")
        path = (
            f"/exec/default/web/main?command=sh&command=-c&command={quoted('echo hello; exit 4')}"
        )
        async with rig.client() as session:
            ws = await session.ws_connect(
                f"{path}&output=1&error=1", protocols=("v5.channel.k8s.io", "v4.channel.k8s.io")
            )
            assert ws.protocol == "v4.channel.k8s.io"
            channels = {}
            async for message in ws:
                channels[message.data[0]] = channels.get(message.data[0], b"") + message.data[1:]
        assert channels[1] == b"hello\n"
        assert b'"ExitCode"' in channels[3]


async def test_following_a_log_ends_with_its_container(rig):
    async with rig.running():
        rig.put_pod("job", shell("echo one; sleep 1; echo two"), restartPolicy="Never")
        await rig.phase("job", "Running", "Succeeded")
        status, text = await rig.get("/containerLogs/default/job/main?follow=true&timestamps=true")
        assert status == 200
        assert [line.split(" ", 1)[1] for line in text.splitlines()] == ["one", "two"]
        assert (await rig.get("/containerLogs/default/job/main?tailLines=1"))[1] == "two\n"


async def test_ten_megabytes_go_in_and_come_out_of_a_command_unchanged(rig):
    content = bytes(range(256)) * 40_000
    async with rig.running():
        rig.put_pod("web", shell(FOREVER))
        await rig.phase("web", "Running")
        status, out, _ = await rig.run("web", "main", "cat", content=content)
        assert (len(out), out == content, status["status"]) == (len(content), True, "Success")


async def test_a_command_that_is_not_there_and_a_used_up_client_are_told(rig):
    async with rig.running():
        rig.put_pod("web", shell(FOREVER))
        await rig.phase("web", "Running")
        status, _, _ = await rig.run("web", "main", "no-such-program")
        assert status["status"] == "Failure"
        assert "no-such-program" in status["message"]
        assert await asyncio.gather(
            *(rig.run("web", "main", "echo", str(n)) for n in range(5))
        ) == [({"metadata": {}, "status": "Success"}, f"{n}\n".encode(), b"") for n in range(5)]
