"""`armadillo-mapper`: run a driver as a mapper, list what is installed, begin a new one."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from corekit.errors import SETTINGS, ConfigError
from corekit.lifecycle import leaf_exceptions, run_until_signalled
from corekit.logs import configure_logging

EXIT_USAGE = 2
DEFAULT_EDGE_SOCKET = "/etc/kubeedge/dmi.sock"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Exit status 2: something is wrong with what was said, in one line; 1: it failed."""
    arguments = _parser().parse_args(argv)
    status = EXIT_USAGE
    try:
        status = arguments.command(arguments)
    except* ConfigError as group:
        for exc in leaf_exceptions(group):
            assert isinstance(exc, ConfigError)
            shown = f"{exc.key}: {exc.problem}" if exc.source == SETTINGS else str(exc)
            sys.stderr.write(f"armadillo-mapper: {shown}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="armadillo-mapper", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="drive the devices of one protocol on this node")
    run.add_argument(
        "driver", help="name of an installed driver, or a file such as tank.py with one"
    )
    run.add_argument("--edge-socket", default=DEFAULT_EDGE_SOCKET, help="edgecore's DMI socket")
    run.add_argument("--socket", help="this mapper's own; else beside edgecore's")
    run.add_argument(
        "--protocol", default="", help="protocolName of its devices; else the driver's name"
    )
    run.add_argument("--name", default="", help="of this mapper; else the driver's name")
    run.add_argument("--log-format", choices=("human", "json"), default="human")
    run.add_argument("--log-level", choices=("DEBUG", "INFO", "WARNING", "ERROR"), default="INFO")
    run.add_argument("--attached", action="store_true", help="end when standard input does")
    run.set_defaults(command=_run)
    listing = commands.add_parser("list", help="name the drivers that are installed")
    listing.set_defaults(command=_list)
    new = commands.add_parser("new", help="write a driver to begin with, and its test")
    new.add_argument("name", help="lower case letters, digits and '-'")
    new.add_argument("--folder", type=Path, help="where; else a folder of that name here")
    new.set_defaults(command=_new)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from mappers.sdk.process import MapperSettings, load_driver, serve

    configure_logging(json_lines=arguments.log_format == "json", level=arguments.log_level)
    driver = load_driver(arguments.driver)
    called = arguments.driver.rpartition("/")[2].removesuffix(".py")
    name = arguments.name or called
    beside = Path(arguments.edge_socket).parent / f"{name}.sock"
    socket = arguments.socket or str(beside)
    if socket == arguments.edge_socket:
        raise ConfigError(SETTINGS, "socket", f"{socket} is edgecore's own; give --socket")
    settings = MapperSettings(
        driver=called,
        socket=socket,
        edge_socket=arguments.edge_socket,
        protocol=arguments.protocol,
        name=name,
    )

    async def run(stop: asyncio.Event) -> None:
        if arguments.attached:
            _stop_with_stdin(stop)
        await serve(settings, driver, stop)

    return run_until_signalled(run)


def _stop_with_stdin(stop: asyncio.Event) -> None:
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def readable() -> None:
        if not os.read(stdin, 1024):
            loop.remove_reader(stdin)
            stop.set()

    loop.add_reader(stdin, readable)


def _list(_arguments: argparse.Namespace) -> int:
    for name, place in sorted(_installed().items()):
        sys.stdout.write(f"{name}\t{place}\n")
    return 0


def _installed() -> dict[str, str]:
    from importlib.metadata import entry_points

    from mappers.sdk.process import DRIVERS

    return {point.name: point.value for point in entry_points(group=DRIVERS)}


def _new(arguments: argparse.Namespace) -> int:
    from mappers.sdk.scaffold import write_skeleton

    if arguments.name in _installed():
        problem = f"{arguments.name!r} is the name of an installed driver"
        raise ConfigError(SETTINGS, "name", problem)
    folder = arguments.folder or Path(arguments.name)
    for path in write_skeleton(arguments.name, folder):
        sys.stdout.write(f"{path}\n")
    sys.stdout.write(f"next: pip install -e '{folder}[test]' && python -m pytest {folder}\n")
    return 0
