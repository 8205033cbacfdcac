"""`kubectl edge`: what an edge needs beside plain kubectl. Talks to the cluster through kubectl itself, so that
contexts, credentials and proxies are those the user has already.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

# Set by cloudcore on each node that runs edgecore.
EDGE_LABEL = "armadillo.edge/agent"
LATER = "join, logs of the agent, and tunnels are not there yet"

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=f"Edge nodes of a cluster ({LATER}).",
)


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Edge nodes of a cluster."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("version")
def show_version() -> None:
    """Print the version of this plugin."""
    try:
        typer.echo(f"kubectl-edge {version('armadillo-edge')}")
    except PackageNotFoundError:
        typer.echo("kubectl-edge (run from a source tree)")


@app.command()
def status() -> None:
    """List the edge nodes with their state and pods."""
    nodes = _kubectl("get", "nodes", "-l", EDGE_LABEL)
    pods = _kubectl("get", "pods", "--all-namespaces")
    counts: dict[str, int] = {}
    for pod in pods:
        node = pod.get("spec", {}).get("nodeName", "")
        counts[node] = counts.get(node, 0) + 1
    rows = [("NODE", "READY", "PODS", "VERSION", "RUNTIME")]
    rows += [_row(node, counts) for node in nodes]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("   ".join(padded).rstrip())


def _row(node: dict[str, Any], counts: dict[str, int]) -> tuple[str, str, str, str, str]:
    name = node["metadata"]["name"]
    conditions = node.get("status", {}).get("conditions", [])
    ready = next((c["status"] for c in conditions if c["type"] == "Ready"), "Unknown")
    about = node.get("status", {}).get("nodeInfo", {})
    runtime = about.get("containerRuntimeVersion", "")
    return name, ready, str(counts.get(name, 0)), about.get("kubeletVersion", ""), runtime


def _kubectl(*args: str) -> list[dict[str, Any]]:
    command = ["kubectl", *args, "-o", "json"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    except FileNotFoundError:
        typer.echo("kubectl-edge: kubectl is not on the PATH", err=True)
        raise typer.Exit(1) from None
    if done.returncode != 0:
        raise typer.Exit(done.returncode)  # kubectl has said why
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return items


def main() -> None:
    """Run the plugin."""
    sys.exit(app())
