"""`kubectl edge messages`: what programs at the edge upload on free MQTT topics, as it comes."""

from __future__ import annotations

import base64
import json
from typing import Annotated

import typer

from armadillo.edge_devices import REFUSED, USAGE, fail, kubectl
from armadillo.edge_values import Authority, Server, find_stream, spoken_time
from armadillo.valueclient import Message, ValueStreamError, messages


def watch_messages(
    context: typer.Context,
    nodes: Annotated[list[str] | None, typer.Argument(metavar="[NODE]...")] = None,
    server: Server = "",
    ca_file: Authority = "",
    output: Annotated[
        str, typer.Option("--output", "-o", help="text or json: one object a line.")
    ] = "text",
) -> None:
    """Print every message that is uploaded at nodes, or at all of them, until Ctrl-C."""
    if output not in ("text", "json"):
        fail(f"--output: {output!r} is neither text nor json", USAGE)
    access = find_stream(kubectl(context), server, ca_file)
    if access is None:
        fail("nothing says where the value stream is: --server HOST:PORT", USAGE)
    line = json_line if output == "json" else text_line
    try:
        for message in messages(access, nodes or []):
            if message.missed:
                typer.echo(f"kubectl-edge: {message.missed} messages left out", err=True)
            typer.echo(line(message))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except ValueStreamError as exc:
        fail(str(exc), REFUSED)


def text_line(message: Message) -> str:
    """Return a message as a line for people; what is no text is shown with escapes."""
    said = message.payload.decode(errors="backslashreplace").replace("\n", "\\n")
    return f"{spoken_time(message.time_ms)}  {message.node}  {message.topic}  {said}"


def json_line(message: Message) -> str:
    """Return a message as a line for programs."""
    said = {"node": message.node, "topic": message.topic, "timeMs": message.time_ms}
    try:
        payload = {"payload": message.payload.decode()}
    except UnicodeDecodeError:
        payload = {"payloadBase64": base64.b64encode(message.payload).decode()}
    return json.dumps({**said, **payload}, ensure_ascii=False)
