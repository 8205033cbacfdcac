"""`kubectl edge twin …` and `kubectl edge device …`: what devices are, should be, and whether they have taken it.

Exit statuses: 0 done, 1 refused (by kubectl, by the device, or too late), 2 what was asked for cannot be right,
3 no answer within the deadline.
"""

from __future__ import annotations

import json
import re
import time
from typing import Annotated, Any, NoReturn

import typer

from armadillo.devicetext import FINAL, Outcome, device_rows, outcomes, table, twin_rows
from armadillo.kubectl import Json, Kubectl, KubectlError
from armadillo.valueclient import ValueStreamError, find_access, seen
from devicemodels.objects import ObjectDecodeError, decode_model
from devicemodels.values import DeviceModelError, parse_desired

REFUSED, USAGE, NO_ANSWER = 1, 2, 3
# A write that meets another one is tried on what that one left.
TRIES = 4
# Namespaces that the value stream is asked about at once.
MAX_ASKED = 100
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}

Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the device.")]
Output = Annotated[str, typer.Option("--output", "-o", help="table or json.")]
Device = Annotated[str, typer.Argument(metavar="DEVICE")]

twin_app = typer.Typer(
    no_args_is_help=True, help="Values of a device: read, set, watch, look back."
)
device_app = typer.Typer(no_args_is_help=True, help="Devices and how they are.")


@device_app.command("ls")
def list_devices(
    context: typer.Context,
    namespace: Namespace = "",
    *,
    every: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")
    ] = False,
    output: Output = "table",
) -> None:
    """List devices: state, when each was seen last, and since when it has not taken which values."""
    where = ["--all-namespaces"] if every else within(namespace)
    found = kubectl(context).items("get", "devices.devices.kubeedge.io", *where)
    if not _as_json(output, found):
        seen_ms = _seen(kubectl(context), found) if found else {}
        typer.echo(table(device_rows(found, time.time(), seen_ms)))


def _seen(calls: Kubectl, devices: list[Json]) -> dict[str, int]:
    """Return when the value stream has seen devices last; nothing if it cannot be asked: the statuses say it too."""
    spaces = {f"{device['metadata'].get('namespace', '')}/" for device in devices}
    try:
        access = find_access(calls, "")
        return seen(access, sorted(spaces)[:MAX_ASKED]) if access else {}
    except (ValueStreamError, KubectlError):
        return {}


@twin_app.command("get")
def get_twin(
    context: typer.Context,
    device: Device,
    properties: Annotated[list[str] | None, typer.Argument(metavar="[PROPERTY]...")] = None,
    namespace: Namespace = "",
    output: Output = "table",
) -> None:
    """Show what a device should be, what it says it is, and what became of each write."""
    found = _device(kubectl(context), device, namespace)
    names = properties or []
    rows = twin_rows(found, names, time.time())
    known = {row[0] for row in twin_rows(found, (), 0.0)[1:]}
    if absent := [name for name in names if name not in known]:
        fail(f"{device} has no value of {', '.join(absent)}", USAGE)
    if not _as_json(output, [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]):
        typer.echo(table(rows))


@twin_app.command("set")
def set_twin(
    context: typer.Context,
    device: Device,
    wanted: Annotated[list[str], typer.Argument(metavar="PROPERTY=VALUE...")],
    namespace: Namespace = "",
    timeout: Annotated[
        str, typer.Option(help="How long to wait: 500ms, 30s, 2m. 0: do not wait.")
    ] = "30s",
) -> None:
    """Set values of a device and wait until it has taken them, or until it is known why not."""
    calls, values, timeout_s = (
        kubectl(context),
        _parse_wanted(wanted),
        parse_span(timeout, "--timeout"),
    )
    generation = _write(calls, device, namespace, values)
    if not timeout_s:
        typer.echo(f"{device}: asked for {', '.join(values)}")
        return
    last: list[Outcome] = []
    for device_now in calls.watch(
        "get", f"devices.devices.kubeedge.io/{device}", *within(namespace), deadline_s=timeout_s
    ):
        last = outcomes(device_now, list(values), generation)
        if all(outcome.phase in FINAL for outcome in last):
            _conclude(device, values, last)
    for outcome in last:
        state = outcome.phase or "not taken by its node yet"
        typer.echo(f"{device}: {outcome.name}: {state} after {timeout}", err=True)
    raise typer.Exit(NO_ANSWER)


def kubectl(context: typer.Context) -> Kubectl:
    """Return kubectl with the flags that the user gave to `kubectl edge`."""
    held = context.obj
    return held if isinstance(held, Kubectl) else Kubectl()


def _conclude(device: str, values: dict[str, str], last: list[Outcome]) -> None:
    for outcome in last:
        line = f"{device}: {outcome.name}: {outcome.phase}"
        good = outcome.phase == "Applied"
        told = f"{line} {values[outcome.name]}" if good else f"{line}: {outcome.why}"
        typer.echo(told, err=not good)
    raise typer.Exit(0 if all(o.phase == "Applied" for o in last) else REFUSED)


def _write(calls: Kubectl, device: str, namespace: str, values: dict[str, str]) -> int:
    """Ask for the values in the Device's spec; return the generation that this made."""
    for attempt in range(TRIES):
        found = _device(calls, device, namespace)
        _check(calls, found, values)
        patch = json.dumps(spec_patch(found, values, int(time.time() * 1000)))
        try:
            written = calls.json(
                "patch", f"devices.devices.kubeedge.io/{device}", *within(namespace),
                "--type", "json", "--patch", patch, quiet=True,
            )  # fmt: skip
            return int(written["metadata"]["generation"])
        except KubectlError as exc:
            moved = "test operation" in exc.said or "testing path" in exc.said
            if not moved or attempt == TRIES - 1:
                fail(exc.said, REFUSED)
    raise AssertionError("the last attempt returns or fails")


def spec_patch(device: Json, values: dict[str, str], now_ms: int) -> list[Json]:
    """Return the JSON patch that asks for `values`; it fails if the properties have moved meanwhile."""
    listed = device.get("spec", {}).get("properties") or []
    places = {prop.get("name"): place for place, prop in enumerate(listed)}
    patch: list[Json] = []
    if not listed:
        patch.append({"op": "add", "path": "/spec/properties", "value": []})
    for name, value in values.items():
        before = listed[places[name]].get("desired") or {} if name in places else {}
        metadata = {**(before.get("metadata") or {}), "timestamp": str(now_ms)}
        desired = {"value": value, "metadata": metadata}
        if name in places:
            path = f"/spec/properties/{places[name]}"
            patch.append({"op": "test", "path": f"{path}/name", "value": name})
            patch.append({"op": "add", "path": f"{path}/desired", "value": desired})
        else:
            added = {"name": name, "desired": desired}
            patch.append({"op": "add", "path": "/spec/properties/-", "value": added})
    return patch


def _check(calls: Kubectl, device: Json, values: dict[str, str]) -> None:
    """End with status 2 if the model forbids a value: the same code as in the cloud and at the edge."""
    meta, spec = device["metadata"], device.get("spec", {})
    name = (spec.get("deviceModelRef") or {}).get("name", "")
    if not name:
        fail(f"{meta['name']}: spec.deviceModelRef.name is empty", USAGE)
    found = calls.json(
        "get", f"devicemodels.devices.kubeedge.io/{name}", *within(meta["namespace"])
    )
    try:
        model = decode_model(json.dumps(found).encode())
        for prop_name, value in values.items():
            prop = model.property(prop_name)
            if prop is None:
                fail(f"{meta['name']}: {prop_name!r} is not a property of model {name}", USAGE)
            parse_desired(f"{meta['namespace']}/{meta['name']}", prop, value)
    except (DeviceModelError, ObjectDecodeError) as exc:
        fail(str(exc), USAGE)


def _device(calls: Kubectl, name: str, namespace: str) -> Json:
    return calls.json("get", f"devices.devices.kubeedge.io/{name}", *within(namespace))


def within(namespace: str) -> list[str]:
    """Return the flags of kubectl for a namespace; none: the context's."""
    return ["--namespace", namespace] if namespace else []


def _parse_wanted(words: list[str]) -> dict[str, str]:
    values = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            fail(f"{word!r} is not PROPERTY=VALUE", USAGE)
        values[name] = value
    return values


def parse_span(text: str, flag: str) -> float:
    """Return the seconds of a time span such as 30s; end with status 2 if it is none."""
    found = _SPAN.fullmatch(text)
    if found is None:
        fail(f"{flag}: {text!r} is not a time such as 500ms, 30s or 2m", USAGE)
    return float(found[1]) * _SECONDS[found[2]]


def _as_json(output: str, value: Any) -> bool:
    if output not in ("table", "json"):
        fail(f"--output: {output!r} is neither table nor json", USAGE)
    if output == "json":
        typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
    return output == "json"


def fail(problem: str, status: int) -> NoReturn:
    """End with one line on standard error."""
    typer.echo(f"kubectl-edge: {problem}", err=True)
    raise typer.Exit(status)
