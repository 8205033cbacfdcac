"""What every daemon's `main()` does alike: arguments, settings, logs, exit status."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from corekit.errors import SETTINGS, ConfigError
from corekit.lifecycle import leaf_exceptions, run_until_signalled
from corekit.logs import configure_logging
from corekit.settings import LogSettings, dump_settings, load_settings


class DaemonSettings(Protocol):
    """The part of a daemon's settings that this module reads."""

    @property
    def log(self) -> LogSettings:
        """How to log."""


S = TypeVar("S", bound=DaemonSettings)
EXIT_USAGE = 2


def run_daemon(
    name: str,
    shape: type[S],
    serve: Callable[[S, asyncio.Event], Awaitable[None]],
    argv: Sequence[str] | None = None,
) -> int:
    """Run the daemon `name`: read `--config`, then `serve(settings, stop)`; return the exit status.

    0: stopped by a signal; 1: a component failed (logged); 2: a wrong setting (one line on standard error).
    """
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--config", type=Path, help="YAML settings file")
    parser.add_argument("--print-defaults", action="store_true", help="print every setting and end")
    parser.add_argument("--log-format", choices=("human", "json"), help="overrides log.format")
    args = parser.parse_args(argv)
    if args.print_defaults:
        sys.stdout.write(dump_settings(shape()))
        return 0
    status = EXIT_USAGE
    try:
        settings = load_settings(args.config, shape) if args.config else shape()
        log = settings.log
        if args.log_format:
            log = dataclasses.replace(log, format=args.log_format)
        configure_logging(json_lines=log.format == "json", level=log.level)
        status = run_until_signalled(lambda stop: serve(settings, stop))
    except* ConfigError as group:
        for exc in leaf_exceptions(group):
            assert isinstance(exc, ConfigError)
            source = str(args.config or "defaults") if exc.source == SETTINGS else exc.source
            sys.stderr.write(f"{name}: {ConfigError(source, exc.key, exc.problem)}\n")
    return status
