"""The publisher of `devices.py`: a process of its own that says what it sent as one line of JSON.

Paho under a thread: MQTT 3.1.1, QoS 1, as many in flight as the broker takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator

import paho.mqtt.client as paho

# In flight: a device at rate does not wait for each acknowledgement, and the broker must not be swamped.
WINDOW = 2000
ROWS = 100


class Publisher:
    """Publishes at QoS 1, `WINDOW` in flight at most."""

    def __init__(self, port: int) -> None:
        self._room = threading.Semaphore(WINDOW)
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.max_inflight_messages_set(WINDOW)
        self._client.on_publish = lambda *_: self._room.release()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def send(self, topic: str, payload: bytes) -> None:
        self._room.acquire()
        self._client.publish(topic, payload, 1)

    def drain(self) -> None:
        for _ in range(WINDOW):
            self._room.acquire()
        self._client.disconnect()
        self._client.loop_stop()


def single(
    prefix: str, devices: int, props: int, newest: dict[str, str]
) -> Iterator[tuple[str, bytes, int]]:
    """Yield messages of one value each, over all properties in turn."""
    number = 0
    while True:
        number += 1
        device, prop = f"{prefix}-{number % devices}", f"p{number // devices % props}"
        newest[f"{device}/{prop}"] = str(number)
        body = b'{"event_id":"","timestamp":0,"twin":{"%b":{"actual":{"value":"%d"}}}}'
        topic = f"$hw/events/device/default/{device}/twin/update"
        yield topic, body % (prop.encode(), number), 1


def compact(
    prefix: str, devices: int, props: int, newest: dict[str, str]
) -> Iterator[tuple[str, bytes, int]]:
    """Yield messages of `ROWS` readings of all properties of a device."""
    names = [f"p{n}" for n in range(props)]
    number = 0
    while True:
        number += 1
        device, now_ms = f"{prefix}-{number % devices}", int(time.time() * 1000)
        rows = [[now_ms - ROWS + row, *[number * ROWS + row] * props] for row in range(ROWS)]
        for name in names:
            newest[f"{device}/{name}"] = str(rows[-1][1])
        body = json.dumps({"properties": names, "rows": rows}, separators=(",", ":")).encode()
        yield f"$hw/events/device/default/{device}/values", body, ROWS * props


def main() -> int:
    """Publish `--count` values or for `--seconds`; print what was sent."""
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=("single", "compact"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--props", type=int, required=True)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0)
    arguments = parser.parse_args()
    newest: dict[str, str] = {}
    make = {"single": single, "compact": compact}[arguments.form]
    publisher = Publisher(arguments.port)
    begun_s, count = time.time(), 0
    for topic, payload, values in make(
        arguments.prefix, arguments.devices, arguments.props, newest
    ):
        publisher.send(topic, payload)
        count += values
        if arguments.count and count >= arguments.count:
            break
        if arguments.seconds and time.time() - begun_s >= arguments.seconds:
            break
    publisher.drain()
    sent = {"count": count, "begun_s": begun_s, "ended_s": time.time(), "newest": newest}
    print(json.dumps(sent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
