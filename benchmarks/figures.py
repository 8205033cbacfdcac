"""How every benchmark prints: a table for people, and with `--json` one line per figure for programs.

With `--json` the lines have standard output to themselves and the table goes to standard error.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Figure(NamedTuple):
    """One measured number; `name` and `unit` are fixed, so that runs can be compared."""

    name: str
    value: float
    unit: str

    def line(self) -> str:
        """Return the figure as its line of JSON."""
        value = int(self.value) if self.value == int(self.value) else round(self.value, 3)
        return json.dumps({"figure": self.name, "value": value, "unit": self.unit})


def publish(title: str, figures: Sequence[Figure], *, as_json: bool, notes: str = "") -> None:
    """Print `figures` as a table under `title`, then `notes`; with `as_json` the JSON lines too."""
    rows = [(figure.name, spoken(figure.value), figure.unit) for figure in figures]
    text = f"{title}\n{machine()}\n\n{table(('figure', 'value', 'unit'), rows)}"
    if notes:
        text = f"{text}\n\n{notes}"
    print(text, file=sys.stderr if as_json else sys.stdout, flush=True)
    if as_json:
        for figure in figures:
            print(figure.line(), flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows in aligned columns; what looks like a number is aligned to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(_aligned(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def spoken(value: float) -> str:
    """Return a number as a person reads it: thousands apart, no more digits than it has meaning."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"


def machine() -> str:
    """Return one line that says on what was measured."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    python = f"Python {platform.python_version()}"
    cores = len(os.sched_getaffinity(0))
    return (
        f"{_processor()}, {cores} cores, {memory_gib:.0f} GiB, Linux {platform.release()}, {python}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _aligned(cell: str, width: int) -> str:
    is_number = cell.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()
    return cell.rjust(width) if is_number else cell.ljust(width)
