"""`kubectl edge twin watch` and `kubectl edge twin history`: values as they come, and as they came."""

from __future__ import annotations

import datetime as dt
import json
import time
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

DAY_S = 86_400.0
Server = Annotated[
    str, typer.Option(help="host:port of cloudcore's value stream; else the kubeconfig says it.")
]
Authority = Annotated[
    str, typer.Option("--ca-file", help="Authority of its certificate; else the cluster's.")
]
Output = Annotated[str, typer.Option("--output", "-o", help="text or json: one object a line.")]


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
        for reading in watch(access, names):
            if reading.missed:
                typer.echo(f"kubectl-edge: {reading.missed} values left out", err=True)
            spoken(reading)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except ValueStreamError as exc:
        fail(str(exc), REFUSED)


@twin_app.command("history")
def show_history(
    context: typer.Context,
    device: Device,
    prop: Annotated[str, typer.Argument(metavar="PROPERTY")],
    namespace: Namespace = "",
    since: Annotated[str, typer.Option(help="How far back: 30s, 10m, 2h.")] = "1h",
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
        for reading in history(access, f"{_namespace(calls, namespace)}/{device}", prop, since_ms):
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
    value = str(reading.value).lower() if isinstance(reading.value, bool) else reading.value
    return f"{spoken_time(reading.time_ms)}  {reading.device}  {reading.property}  {value}"


def spoken_time(time_ms: int) -> str:
    """Return a time as it stands before a value."""
    moment = dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


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


class _Printer:
    def __init__(self, *, as_json: bool) -> None:
        self._line = json_line if as_json else text_line

    def __call__(self, reading: Reading) -> None:
        typer.echo(self._line(reading))


def _printer(output: str) -> _Printer:
    if output not in ("text", "json"):
        fail(f"--output: {output!r} is neither text nor json", USAGE)
    return _Printer(as_json=output == "json")


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
