"""The faults, by their ids in the catalogue. Each is a coroutine of a world and a seeded generator."""

from __future__ import annotations

from tests.faults.catalogue import apis, disks, hostile, links, processes
from tests.faults.catalogue.base import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for module in (processes, links, disks, hostile, apis)
    for fault in module.FAULTS
}
