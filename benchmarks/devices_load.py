"""The publisher of `devices.py`: a process of its own that says what it sent as one line of JSON.

MQTT 3.1.1, QoS 1, a window of messages in flight, as devices at rate have it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from typing import Any

# In flight: a device at rate does not wait for each acknowledgement, and the broker must not be swamped.
WINDOW = 2000
BATCH = 20
ROWS = 100
# Of DMI: readings of each property in a message, and messages that wait for their answer.
DMI_ROWS, DMI_WINDOW = 80, 4


class Publisher:
    """Publishes at QoS 1, `WINDOW` in flight at most; bytes by hand, so that it is not what is measured."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        name = b"load-%d" % os.getpid()
        body = b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack(">H", len(name)) + name
        self._socket.sendall(b"\x10" + bytes([len(body)]) + body)
        assert self._socket.recv(4) == b"\x20\x02\x00\x00", "the broker refuses"
        self._number = self._in_flight = self._odd_bytes = 0
        self._held: list[bytes] = []

    def send(self, topic: str, payload: bytes) -> None:
        self._number = self._number % 65535 + 1
        name = topic.encode()
        size = 4 + len(name) + len(payload)
        head = b"\x32" + _length(size) + struct.pack(">H", len(name)) + name
        self._held.append(head + struct.pack(">H", self._number) + payload)
        if len(self._held) >= BATCH:
            self._flush()

    def drain(self) -> None:
        self._flush()
        while self._in_flight:
            self._acknowledged()
        self._socket.close()

    def _flush(self) -> None:
        while self._in_flight + len(self._held) > WINDOW:
            self._acknowledged()
        self._socket.sendall(b"".join(self._held))
        self._in_flight += len(self._held)
        self._held.clear()

    def _acknowledged(self) -> None:
        got = len(self._socket.recv(65536)) + self._odd_bytes  # a PUBACK has four bytes
        assert got > self._odd_bytes, "the broker hung up"
        self._in_flight -= got // 4
        self._odd_bytes = got % 4


def _length(size: int) -> bytes:
    coded = b""
    while True:
        size, digit = divmod(size, 128)
        coded += bytes([digit | (128 if size else 0)])
        if not size:
            return coded


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


def dmi(arguments: argparse.Namespace) -> dict[str, Any]:
    """Stream columns of numbers over DMI, all properties of all devices in each message; return what was sent."""
    import grpc

    from devicemodels.pb import readings_pb2, readings_pb2_grpc

    named = [
        (f"{arguments.prefix}-{device}", f"p{prop}")
        for device in range(arguments.devices)
        for prop in range(arguments.props)
    ]
    rows = DMI_ROWS * len(named)
    series = array("I", list(range(len(named))) * DMI_ROWS).tobytes()
    written, answered = 0, threading.Semaphore(DMI_WINDOW)
    begun_s = time.time()

    def messages() -> Iterator[readings_pb2.ReadingBatch]:
        nonlocal written
        names = [readings_pb2.Series(device=f"default/{d}", property=p) for d, p in named]
        while not written or time.time() - begun_s < arguments.seconds:
            answered.acquire()
            now_ms, written = int(time.time() * 1000), written + 1
            yield readings_pb2.ReadingBatch(
                named=names,
                series=series,
                times_ms=(array("q", [now_ms]) * rows).tobytes(),
                numbers=(array("d", [written]) * rows).tobytes(),
            )
            names = []

    count = 0
    with grpc.insecure_channel(f"unix:{arguments.socket}") as channel:
        for answer in readings_pb2_grpc.ReadingServiceStub(channel).Stream(messages()):  # type: ignore[no-untyped-call]
            assert not answer.refused, answer.reason
            count += answer.taken
            answered.release()
    newest = {f"{device}/{prop}": str(written) for device, prop in named}
    return {"count": count, "begun_s": begun_s, "ended_s": time.time(), "newest": newest}


def main() -> int:
    """Publish `--count` values or for `--seconds`; print what was sent."""
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=("single", "compact", "dmi"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--socket", default="")
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--props", type=int, required=True)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0)
    arguments = parser.parse_args()
    if arguments.form == "dmi":
        print(json.dumps(dmi(arguments)))
        return 0
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
