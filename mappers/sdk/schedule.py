"""When each property of a device is read next; pure."""

from __future__ import annotations

from collections.abc import Iterable

from devicemodels.dmi import MappedProperty

DEFAULT_CYCLE_S = 1.0
# Faster than that a driver listens instead of polling.
MIN_CYCLE_S = 0.01
# What is due within so much of each other is read together: one request to the device instead of two.
TOGETHER_S = 0.005


class Schedule:
    """Reading times by property. Units: seconds of the caller's clock."""

    def __init__(self, properties: Iterable[MappedProperty]) -> None:
        self._cycle_s = {p.name: _cycle_s(p) for p in properties}
        self._due_s: dict[str, float] = {}

    def restart(self, now_s: float) -> None:
        """Make everything due now."""
        self._due_s = dict.fromkeys(self._cycle_s, now_s)

    def due(self, now_s: float) -> set[str]:
        """Return the properties to read now, and plan them again; cycles that were missed are not made up for."""
        names = {name for name, at_s in self._due_s.items() if at_s <= now_s + TOGETHER_S}
        for name in names:
            late_s = self._due_s[name] + self._cycle_s[name]
            self._due_s[name] = late_s if late_s > now_s else now_s + self._cycle_s[name]
        return names

    def soon(self, name: str) -> None:
        """Make one property due."""
        if name in self._due_s:
            self._due_s[name] = 0.0

    def next_s(self) -> float:
        """Return when something is due."""
        return min(self._due_s.values(), default=float("inf"))


def _cycle_s(prop: MappedProperty) -> float:
    cycle_ms = prop.collect_cycle_ms or prop.report_cycle_ms
    return max(cycle_ms / 1000, MIN_CYCLE_S) if cycle_ms > 0 else DEFAULT_CYCLE_S
