"""A mapper as a process: registers at edgecore, serves its devices, and stops on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from typing import Any

from corekit.errors import SETTINGS, ConfigError
from devicemodels.pb import dmi_pb2 as pb
from mappers.sdk.driver import Driver
from mappers.sdk.edge import EdgeClient, Identity
from mappers.sdk.fleet import Fleet
from mappers.sdk.server import serve_mapper

logger = logging.getLogger(__name__)

DRIVERS = "armadillo.drivers"  # group of entry points
_STOP_GRACE_S = 1.0


@dataclass(frozen=True)
class MapperSettings:
    """One mapper.

    Shapes:  driver: name of an entry point of "armadillo.drivers", or of a file. protocol: what devices name in
             spec.protocol.protocolName; empty: the driver's name. socket: its own; edge_socket: edgecore's.
    """

    driver: str
    socket: str
    edge_socket: str
    protocol: str = ""
    name: str = ""


def load_driver(name: str) -> type[Driver[Any, Any]]:
    """Return the driver of that name, or in that file. Raises: ConfigError: there is none, or it cannot be imported."""
    if name.endswith(".py"):
        return _driver_in(Path(name))
    known = {point.name: point for point in entry_points(group=DRIVERS)}
    if name not in known:
        names = ", ".join(sorted(known)) or "none is installed"
        raise ConfigError(SETTINGS, "driver", f"{name!r} is not installed; there are: {names}")
    try:
        driver = known[name].load()
    except ImportError as exc:
        raise ConfigError(SETTINGS, "driver", f"{name!r} cannot be loaded: {exc}") from exc
    if not (isinstance(driver, type) and issubclass(driver, Driver)):
        raise ConfigError(SETTINGS, "driver", f"{known[name].value} is not a subclass of Driver")
    return driver


def _driver_in(path: Path) -> type[Driver[Any, Any]]:
    name = f"driver_file_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # where annotations are looked up
    try:
        spec.loader.exec_module(module)
    except Exception as exc:  # somebody else's code: it may raise anything
        problem = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
        where = f"{path}: {type(exc).__name__}: {problem}"
        raise ConfigError(SETTINGS, "driver", f"{where}{_line_of(exc, path)}") from exc
    drivers = [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Driver) and found.__module__ == name
    ]
    if len(drivers) != 1:
        names = ", ".join(driver.__name__ for driver in drivers) or "none"
        problem = f"{path}: there must be one subclass of Driver in it; there is: {names}"
        raise ConfigError(SETTINGS, "driver", problem)
    return drivers[0]


def _line_of(exc: BaseException, path: Path) -> str:
    """Return where in the file it happened, if it did there."""
    lines = [f.lineno for f in extract_tb(exc.__traceback__) if f.filename == str(path)]
    return f" (line {lines[-1]})" if lines else ""


async def serve(
    settings: MapperSettings, driver: type[Driver[Any, Any]], stop: asyncio.Event
) -> None:
    """Run the mapper until `stop` is set. Raises: ConfigError: its socket cannot be served."""
    identity = Identity(
        name=settings.name or settings.driver,
        protocol=settings.protocol or settings.driver,
        version=version("armadillo-edge"),
        socket=settings.socket,
    )
    async with EdgeClient(settings.edge_socket, identity) as edge, asyncio.TaskGroup() as group:
        fleet = Fleet(driver, edge, group)
        server = await serve_mapper(fleet, settings.socket)

        def registered(answer: pb.MapperRegisterResponse) -> None:
            fleet.replace_all(answer.modelList, answer.deviceList)

        reporting = group.create_task(edge.run(registered))
        try:
            await stop.wait()
        finally:
            reporting.cancel()
            fleet.close()
            await server.stop(_STOP_GRACE_S)
