"""`armadillo`: the front door. Flags only; what they do is in `armadillo.up`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from armadillo.containerd import ContainerdError
from armadillo.up.errors import UpError
from corekit.errors import ConfigError

EXIT_FAILED, EXIT_USAGE = 1, 2

# Typer brings its own click in newer versions: the class every wrong flag derives from is asked, not imported.
UsageProblem: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="armadillo",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Kubernetes workloads and devices at the edge, on this machine.",
)

State = Annotated[Path, typer.Option("--state", help="Folder with everything of one set-up.")]


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Kubernetes workloads and devices at the edge, on this machine."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def up(
    *,
    state: State = Path(".armadillo"),
    nodes: Annotated[int, typer.Option(help="How many edge nodes.")] = 1,
    runtime: Annotated[
        str, typer.Option(help="auto | cri (containerd, needs root) | process (plain processes)")
    ] = "auto",
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Use this cluster instead of the embedded Kubernetes API.")
    ] = None,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Without the demo lamp.")] = False,
) -> None:
    """Run a cloud, edge nodes and a demo device in the foreground; Ctrl-C stops them."""
    from armadillo.up import command
    from armadillo.up.options import UpOptions

    command.up(UpOptions(state, nodes, runtime, kubeconfig, demo=not no_demo))


@app.command()
def down(
    *,
    state: State = Path(".armadillo"),
    purge: Annotated[bool, typer.Option("--purge", help="Remove the state folder too.")] = False,
) -> None:
    """Stop and remove the pods that an ended `armadillo up` left running."""
    from armadillo.up import command

    command.down(state, purge=purge)


def main() -> None:
    """Run the command line. Exit status 2: a wrong flag, folder or file, said in one line; 1: it failed."""
    try:
        status = app(standalone_mode=False)
    except UsageProblem as exc:
        _end(_one_line(exc), EXIT_USAGE)
    except ConfigError as exc:
        _end(str(exc), EXIT_USAGE)
    except (UpError, ContainerdError) as exc:
        _end(str(exc), EXIT_FAILED)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _one_line(exc: Exception) -> str:
    message = exc.format_message() if hasattr(exc, "format_message") else str(exc)
    return " ".join(str(message).split())


def _end(problem: str, status: int) -> NoReturn:
    sys.stderr.write(f"armadillo: {problem}\n")
    sys.exit(status)
