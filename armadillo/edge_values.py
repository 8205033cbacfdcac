"""`kubectl edge twin watch` and `kubectl edge twin history`: values as they come, and as they came."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import time
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from armadillo.edge_devices import (
    REFUSED,
    USAGE,
    Device,
    Namespace,
    fail,
    kubectl,
    parse_span,
    twin_app,
    within,
)
from armadillo.kubectl import Kubectl
from armadillo.valueclient import Access, Reading, ValueStreamError, find_access, history, watch
from armadillo.valueclient import read_ca as read_pem
from corekit.backoff import Backoff

DAY_S = 86_400.0
MAX_LIMIT = 100_000  # cloudcore's own
Server = Annotated[
    str, typer.Option(help="host:port of cloudcore's value stream; else the kubeconfig says it.")
]
Authority = Annotated[
    str, typer.Option("--ca-file", help="Authority of its certificate; else the cluster's.")
]
Output = Annotated[
    str, typer.Option("--output", "-o", help="text, csv, or json: one object a line.")
]


@twin_app.command("watch")
def watch_twin(
    context: typer.Context,
    devices: Annotated[list[str], typer.Argument(metavar="DEVICE...")],
    namespace: Namespace = "",
    server: Server = "",
    ca_file: Authority = "",
    output: Output = "text",
) -> None:
    """Print every value of devices as it is reported, until Ctrl-C."""
    calls = kubectl(context)
    spoken = _printer(output)
    access = find_stream(calls, server, ca_file)
    names = [f"{_namespace(calls, namespace)}/{device}" for device in devices]
    if access is None:
        typer.echo(
            "kubectl-edge: nothing says where the value stream is (--server): "
            "showing what the Device's status says, once a second at most",
            err=True,
        )
        _watch_status(calls, devices, namespace, spoken)
    try:
        _watch_on(lambda: find_stream(calls, server, ca_file) or access, names, spoken)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@twin_app.command("history")
def show_history(
    context: typer.Context,
    device: Device,
    prop: Annotated[str, typer.Argument(metavar="PROPERTY")],
    namespace: Namespace = "",
    since: Annotated[str, typer.Option(help="How far back: 30s, 10m, 2h.")] = "1h",
    limit: Annotated[
        int, typer.Option(min=0, max=MAX_LIMIT, help="The newest so many of them; 0: all.")
    ] = 0,
    server: Server = "",
    ca_file: Authority = "",
    output: Output = "text",
) -> None:
    """Print the values of a property that are kept, oldest first. Its `history.keepSeconds` says for how long."""
    calls, span_s, spoken = kubectl(context), parse_span(since, "--since"), _printer(output)
    access = find_stream(calls, server, ca_file)
    if access is None:
        fail("nothing says where the value stream is: --server HOST:PORT", USAGE)
    since_ms = int((time.time() - span_s) * 1000)
    found = 0
    try:
        name = f"{_namespace(calls, namespace)}/{device}"
        for reading in history(access, name, prop, since_ms=since_ms, newest_count=limit):
            spoken(reading)
            found += 1
    except ValueStreamError as exc:
        fail(str(exc), REFUSED)
    if not found:
        typer.echo(
            f"kubectl-edge: nothing is kept of {device} {prop}: is `history.keepSeconds` set?",
            err=True,
        )


def text_line(reading: Reading) -> str:
    """Return a value as a line for people."""
    return f"{spoken_time(reading.time_ms)}  {reading.device}  {reading.property}  {_spoken(reading.value)}"


def json_line(reading: Reading) -> str:
    """Return a value as a line for programs."""
    return json.dumps(
        {
            "device": reading.device,
            "property": reading.property,
            "timeMs": reading.time_ms,
            "value": reading.value,
        },
        ensure_ascii=False,
    )


def _watch_on(find: Callable[[], Access], names: list[str], spoken: _Printer) -> NoReturn:
    """Print values, over losses of the stream too; one that has never said anything ends the command."""
    backoff, begun = Backoff(0.2, 10.0), False
    last: dict[tuple[str, str], int] = {}
    while True:
        said = False
        try:
            # Each time: a token may have run out meanwhile.
            for reading in watch(find(), names, last):
                said = begun = True
                if reading.missed:
                    typer.echo(f"kubectl-edge: {reading.missed} values left out", err=True)
                spoken(reading)
            fault = "the value stream has ended"
        except ValueStreamError as exc:
            if not ((begun and exc.retryable) or (said and exc.unknown)):
                fail(str(exc), REFUSED)
            fault = str(exc)
        if said:
            backoff.reset()
            typer.echo(
                f"kubectl-edge: {fault}; of what comes until it is back only what is kept is shown",
                err=True,
            )
        time.sleep(backoff.next_delay_s())


def csv_line(reading: Reading) -> str:
    """Return a value as a line of a table, as spreadsheets read it."""
    return _csv(
        spoken_time(reading.time_ms), reading.device, reading.property, _spoken(reading.value)
    )


def _csv(*cells: object) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def spoken_time(time_ms: int) -> str:
    """Return a time as it stands before a value."""
    try:
        moment = dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC)
    except (ValueError, OverflowError, OSError):  # a device may say any time
        return f"{time_ms}ms"
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


def _spoken(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


LINES = {"text": text_line, "json": json_line, "csv": csv_line}


class _Printer:
    def __init__(self, output: str) -> None:
        self._line = LINES[output]
        self._head = _csv("time", "device", "property", "value") if output == "csv" else ""

    def __call__(self, reading: Reading) -> None:
        if self._head:
            typer.echo(self._head)
            self._head = ""
        typer.echo(self._line(reading))


def _printer(output: str) -> _Printer:
    if output not in LINES:
        fail(f"--output: {output!r} is neither of {', '.join(LINES)}", USAGE)
    return _Printer(output)


def find_stream(calls: Kubectl, server: str, ca_file: str) -> Access | None:
    """Return how to reach the value stream, None if nothing says it; end with status 2 if it cannot be."""
    try:
        access = find_access(calls, server)
        return access._replace(ca=read_pem(ca_file)) if access and ca_file else access
    except ValueStreamError as exc:
        fail(str(exc), USAGE)


def _namespace(calls: Kubectl, namespace: str) -> str:
    """Return the namespace that is meant: the one given, or the context's."""
    if namespace:
        return namespace
    config = calls.json("config", "view", "--minify")
    contexts = config.get("contexts") or [{}]
    return str((contexts[0].get("context") or {}).get("namespace") or "default")


def _watch_status(calls: Kubectl, devices: list[str], namespace: str, spoken: _Printer) -> NoReturn:
    shown: dict[tuple[str, str], str] = {}
    field = f"metadata.name={devices[0]}"
    if len(devices) > 1:
        fail("without the value stream one device at a time can be watched", USAGE)
    try:
        for seen in calls.watch(
            "get", "devices.devices.kubeedge.io", "--field-selector", field, *within(namespace),
            deadline_s=DAY_S,
        ):  # fmt: skip
            name = f"{seen['metadata'].get('namespace', '')}/{seen['metadata']['name']}"
            for twin in (seen.get("status") or {}).get("twins") or []:
                reported = twin.get("reported") or {}
                stamp = reported.get("metadata", {}).get("timestamp", "0")
                if reported and shown.get((name, twin["propertyName"])) != stamp:
                    shown[name, twin["propertyName"]] = stamp
                    spoken(Reading(name, twin["propertyName"], int(stamp), reported["value"]))
    except KeyboardInterrupt:
        pass
    raise typer.Exit(0)
