"""Figures of byte streams into pods: the round trip of a command, the rate of a log that is followed.

    python benchmarks/streams.py [--json] [--execs 50] [--seconds 10]

Both go the whole way: a client of the Kubernetes API, kubecore, cloudcore's nodeproxy, the node's one connection,
the agent, containerd. The client is this process, so no start of kubectl is in the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import statistics
import sys
import time
from urllib.parse import urlencode

import aiohttp
from figures import Figure, publish
from memory import (
    EXIT_FAILED,
    EXIT_USAGE,
    IMAGE,
    BenchmarkError,
    Up,
    end_from_outside,
)

from cloudcore.kube.kubeconfig import load_endpoint

POD = "benchmark-streams"
PATH = f"/api/v1/namespaces/default/pods/{POD}"
READY_TIMEOUT = "--timeout=60s"
# A hundred bytes a line: what programs log.
LINE = "x" * 99
SCRIPT = f"trap 'exit 0' TERM; yes {LINE} & while :; do sleep 1; done"
QUIET = "trap 'exit 0' TERM; while :; do sleep 1; done"
WARM_UP = 3


def measure(up: Up, execs: int, seconds: float) -> list[Figure]:
    """Return both figures, with pods of their own. Raises: BenchmarkError."""
    start(up, QUIET)
    took_ms = asyncio.run(_execs(up, execs))
    remove(up)
    start(up, SCRIPT)
    rate = asyncio.run(_log_rate(up, seconds))
    remove(up)
    return [
        Figure("pods.exec.p50", statistics.median(took_ms), "ms"),
        Figure("pods.logs.rate", rate, "MB/s"),
    ]


def start(up: Up, script: str) -> None:
    """Run the pod until it is ready."""
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": "default"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    up.kubectl("apply", "-f", "-", content=json.dumps(pod))
    up.kubectl("wait", f"pod/{POD}", "--for=condition=Ready", READY_TIMEOUT)


def remove(up: Up) -> None:
    """Delete the pod and wait until it is gone."""
    up.kubectl("delete", "pod", POD, "--wait=true", READY_TIMEOUT)


async def _execs(up: Up, count: int) -> list[float]:
    endpoint = load_endpoint(up.kubeconfig)
    query = urlencode(
        [
            ("command", "echo"),
            ("command", "hello"),
            ("stdout", "1"),
            ("stderr", "1"),
            ("container", "main"),
        ]
    )
    took_ms = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=endpoint.tls)) as session:
        for _ in range(WARM_UP + count):
            begun_s = time.monotonic()
            protocols = ("v5.channel.k8s.io", "v4.channel.k8s.io")
            url = f"{endpoint.server}{PATH}/exec?{query}"
            said = b""
            async with session.ws_connect(url, protocols=protocols) as socket:
                async for message in socket:
                    if message.data and message.data[0] == 1:
                        said += message.data[1:]
            took_ms.append(1000 * (time.monotonic() - begun_s))
            if said != b"hello\n":
                raise BenchmarkError(f"exec said {said!r}")
    return took_ms[WARM_UP:]


async def _log_rate(up: Up, seconds: float) -> float:
    endpoint = load_endpoint(up.kubeconfig)
    url = f"{endpoint.server}{PATH}/log?container=main&follow=true&tailLines=0"
    came_bytes, begun_s = 0, 0.0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=endpoint.tls)) as session:
        async with session.get(url) as reply:
            async for chunk in reply.content.iter_any():
                if not begun_s:  # the first chunk is what the start made wait
                    begun_s = time.monotonic()
                    continue
                came_bytes += len(chunk)
                if (passed_s := time.monotonic() - begun_s) >= seconds:
                    return came_bytes / passed_s / 1e6
    raise BenchmarkError("the log ended")


def main() -> int:
    """Return the exit status: 0, 1 if there are no figures, 2 if something is missing here."""
    parser = argparse.ArgumentParser(description="byte streams into pods")
    parser.add_argument(
        "--json", action="store_true", help="one line per figure on standard output"
    )
    parser.add_argument("--execs", type=int, default=50, help="commands, one at a time")
    parser.add_argument("--seconds", type=float, default=10.0, help="to follow a log")
    arguments = parser.parse_args()
    if not shutil.which("kubectl"):
        print("streams: kubectl is not installed", file=sys.stderr)
        return EXIT_USAGE
    if arguments.execs < 1 or arguments.seconds <= 0:
        print("streams: --execs and --seconds must be more than 0", file=sys.stderr)
        return EXIT_USAGE
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end_from_outside)
    try:
        with Up("cri") as up:
            figures = measure(up, arguments.execs, arguments.seconds)
    except (BenchmarkError, aiohttp.ClientError) as exc:
        print(f"streams: {exc}", file=sys.stderr)
        return EXIT_FAILED
    publish("Byte streams into pods", figures, as_json=arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
