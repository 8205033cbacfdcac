"""The codec by itself, on one core: readings of a block, compiled beside the Python twin; and the disk's limit."""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from array import array
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

from figures import Figure

from synccore.messages import Delta, ObjectKey, Op
from synccore.series import Series

READINGS, DEVICES, PROPERTIES = 10_000, 100, 10
SERIES = DEVICES * PROPERTIES
RECORDS = 1_000
NAMES = [
    Series(f"default/pump-{device:04}", f"property-{prop}")
    for device in range(DEVICES)
    for prop in range(PROPERTIES)
]
TIME_MS = 1_700_000_000_000
ROWS_PER_COMMIT, ROW_BYTES = 1_000, 100


def columns(count: int, *, seed: int = 1) -> tuple[array[int], array[int], array[float]]:
    """Return `count` readings, each series in turn, whose values need all eight bytes of a float."""
    chance = random.Random(seed)
    return (
        array("I", [number % SERIES for number in range(count)]),
        array("q", [TIME_MS + number // SERIES for number in range(count)]),
        array("d", [chance.uniform(0.0, 100.0) for _ in range(count)]),
    )


def codec_figures(runs: int) -> list[Figure]:
    """Return deltas/s of encode, decode, coalesce and digest, then the same of the Python twins."""
    figures = []
    for suffix, samples, codec in (
        ("", "synccore._samples", "synccore._codec"),
        (".python", "synccore._samples_py", "synccore._codec_py"),
    ):
        for name, call in _calls(import_module(samples), import_module(codec)).items():
            rate = statistics.median(_rate(call) for _ in range(runs))
            figures.append(Figure(f"codec.{name}{suffix}", rate, "deltas/s"))
    return figures


def record_rates(runs: int) -> list[tuple[str, float, float]]:
    """Return deltas/s of whole records, (what, compiled, Python): objects are made of each, so it is slower."""
    found = []
    codecs = [import_module(f"synccore.{name}") for name in ("_codec", "_codec_py")]
    deltas = [
        Delta(Op.UPSERT, ObjectKey("Pod", "default", f"web-{n}"), "u-1", n, body=bytes(200))
        for n in range(RECORDS)
    ]
    batch = codecs[0].encode_batch(deltas)
    for what, argument in (("encode", deltas), ("decode", batch)):
        calls = [partial(getattr(codec, f"{what}_batch"), argument) for codec in codecs]
        compiled, python = (
            statistics.median(_rate(call, RECORDS) for _ in range(runs)) for call in calls
        )
        found.append((what, compiled, python))
    return found


def sqlite_rows_per_s(folder: Path, duration_s: float) -> float:
    """Return how many small rows a bare sqlite3 makes durable, a thousand to a commit, as the edge's store is set."""
    database = sqlite3.connect(folder / "limit.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    rows = [(random.randbytes(ROW_BYTES),) for _ in range(ROWS_PER_COMMIT)]
    begun_s, count = time.perf_counter(), 0
    while (spent_s := time.perf_counter() - begun_s) < duration_s:
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO rows (body) VALUES (?)", rows)
        database.execute("COMMIT")
        count += ROWS_PER_COMMIT
    database.close()
    return count / spent_s


def _calls(samples: ModuleType, codec: ModuleType) -> dict[str, Callable[[], object]]:
    readings = columns(READINGS)
    encoded = samples.encode_readings(*readings, SERIES)
    entries = codec.pack_entries([(random.getrandbits(64), n) for n in range(READINGS)])
    return {
        "encode": lambda: samples.encode_readings(*readings, SERIES),
        "decode": lambda: samples.decode_readings(encoded, 0, SERIES),
        "coalesce": lambda: samples.coalesce_readings(*readings, SERIES),
        "digest": lambda: codec.digest_entries(entries),
    }


def _rate(call: Callable[[], object], size: int = READINGS, least_s: float = 0.2) -> float:
    call()
    begun_s, count = time.perf_counter(), 0
    while (spent_s := time.perf_counter() - begun_s) < least_s:
        call()
        count += size
    return count / spent_s
