"""`kubectl edge`: what an edge needs beside plain kubectl. Talks to the cluster through kubectl itself, so that
contexts, credentials and proxies are those the user has already.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

import armadillo.edge_values  # noqa: F401 - registers `twin watch` and `twin history`
from armadillo.devicetext import table
from armadillo.edge_devices import device_app, kubectl, twin_app
from armadillo.edge_messages import watch_messages
from armadillo.edge_nodes import node_app
from armadillo.kubectl import Kubectl, KubectlError

# Set by cloudcore on each node that runs edgecore.
EDGE_LABEL = "armadillo.edge/agent"
LATER = "join, logs of the agent, and tunnels are not there yet"

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=f"Edge nodes and devices of a cluster ({LATER}).",
)
app.add_typer(twin_app, name="twin")
app.add_typer(device_app, name="device")
app.command("messages")(watch_messages)
app.add_typer(node_app, name="node")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    kube_context: Annotated[str, typer.Option("--context", help="Context of the kubeconfig.")] = "",
    kubeconfig: Annotated[str, typer.Option("--kubeconfig", help="Path of the kubeconfig.")] = "",
) -> None:
    """Edge nodes and devices of a cluster."""
    given = {"--context": kube_context, "--kubeconfig": kubeconfig}
    context.obj = Kubectl([word for flag, text in given.items() if text for word in (flag, text)])
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
def status(context: typer.Context) -> None:
    """List the edge nodes with their state and pods."""
    calls = kubectl(context)
    nodes = calls.items("get", "nodes", "-l", EDGE_LABEL)
    pods = calls.items("get", "pods", "--all-namespaces")
    counts: dict[str, int] = {}
    for pod in pods:
        node = pod.get("spec", {}).get("nodeName", "")
        counts[node] = counts.get(node, 0) + 1
    rows = [("NODE", "READY", "PODS", "VERSION", "RUNTIME")]
    rows += [_row(node, counts) for node in nodes]
    typer.echo(table(rows))


def _row(node: dict[str, Any], counts: dict[str, int]) -> tuple[str, str, str, str, str]:
    name = node["metadata"]["name"]
    conditions = node.get("status", {}).get("conditions", [])
    ready = next((c["status"] for c in conditions if c["type"] == "Ready"), "Unknown")
    about = node.get("status", {}).get("nodeInfo", {})
    runtime = about.get("containerRuntimeVersion", "")
    return name, ready, str(counts.get(name, 0)), about.get("kubeletVersion", ""), runtime


def main() -> None:
    """Run the plugin."""
    try:
        sys.exit(app())
    except KubectlError as exc:
        if exc.said:
            typer.echo(f"kubectl-edge: {exc.said}", err=True)
        sys.exit(exc.status)


if __name__ == "__main__":
    main()
