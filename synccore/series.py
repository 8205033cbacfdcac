"""The vocabulary of samples: a series is one property of one device, a reading its value at a time.

Readings travel in columns (series, times, values), many to a block; docs/protocol.md 8 describes the bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

# First byte of a frame's batch that is a block of readings; `messages.BATCH_FORMAT` is the other one.
BLOCK_FORMAT = 2
# At 2 bytes a reading, the least there is, a full block is far below the frame limit; its columns are 1.5 MiB.
MAX_READINGS = 65_536
MAX_SERIES = 65_536
# Of all texts of a block together. Shared prefixes expand: a short lie must not become gigabytes.
MAX_NAMES_BYTES = 1 << 20
# One device name ("namespace/name") or property name; Kubernetes' own end far below.
MAX_NAME_BYTES = 512
# A reading is a measured value. Who has more to say has events.
MAX_TEXT_VALUE_BYTES = 1024

# The property of a series that says only that its device was heard, at its times; the values mean nothing.
PRESENCE = ""

Value = float | int | bool | str
# All floats, the common case, stay 8 bytes each; any other mix is a list of objects.
Values = Sequence[Value]


class Series(NamedTuple):
    """One property of one device; `device` is "namespace/name"."""

    device: str
    property: str


@dataclass(frozen=True, slots=True)
class Readings:
    """Columns of equal length; reading number i is `names[series[i]]`, `times[i]`, `values[i]`.

    Shapes:  series: array("I"), places in `names`. times: array("q"). values: array("d"), or a list if
             not all are floats.
    Units:   times: Unix milliseconds, signed.
    """

    names: Sequence[Series]
    series: array[int]
    times: array[int]
    values: Values

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True, slots=True)
class Block:
    """A decoded block.

    Shapes:  sequence: number of the block in the edge's database, the same whenever it is sent; 0: in no database.
    """

    sequence: int
    readings: Readings
