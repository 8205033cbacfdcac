"""The protobuf fields of the Kubernetes API, read from the data file that `gen_proto_fields` makes.

Loaded at the first body in protobuf: most servers of a few nodes never see one.
"""

from __future__ import annotations

import functools
import gzip
import json
from dataclasses import dataclass
from importlib import resources

from kubecore.kinds.definitions import RELEASE

_META = "apimachinery.pkg.apis.meta.v1"
# Every group has these; they are declared once.
_SHARED = frozenset({"DeleteOptions", "Status", "CreateOptions", "UpdateOptions", "PatchOptions"})


@dataclass(frozen=True, slots=True)
class ProtoField:
    """One field of a message, and what JSON makes of it."""

    name: str
    type: str  # a scalar of protobuf, or "." and a message
    repeated: bool
    map: bool  # from strings
    inline: bool  # its members belong to the parent
    omit_zero: bool


@functools.cache
def fields_of(message: str) -> dict[int, ProtoField]:
    """Return the fields of `message` by number. Raises:  KeyError."""
    found: dict[int, ProtoField] = {}
    for line in _table()[1][message].splitlines():
        number, name, kind, *flags = line.split(" ")
        flag = flags[0] if flags else ""
        found[int(number)] = ProtoField(
            name, kind, "r" in flag, "m" in flag, "i" in flag, "z" in flag
        )
    return found


def message_of(api_version: str, kind: str) -> str | None:
    """Return the message that carries objects of this apiVersion and kind, or None."""
    groups, messages = _table()
    package = _META if kind in _SHARED else groups.get(api_version, "")
    message = f"{package}.{kind}"
    return message if message in messages else None


@functools.cache
def _table() -> tuple[dict[str, str], dict[str, str]]:
    packed = resources.files(__package__).joinpath(f"proto-{RELEASE}.json.gz").read_bytes()
    table = json.loads(gzip.decompress(packed))
    return table["groups"], table["messages"]
