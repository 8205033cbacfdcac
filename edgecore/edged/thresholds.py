"""Eviction thresholds: how they are written, when one is met, and which condition it means; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from corekit.errors import SETTINGS, ConfigError
from edgecore.edged.spec.quantity import parse_quantity

MEMORY = "memory.available"
ALLOCATABLE_MEMORY = "allocatableMemory.available"  # of what all pods together may use
NODEFS, NODEFS_INODES = "nodefs.available", "nodefs.inodesFree"
IMAGEFS, IMAGEFS_INODES = "imagefs.available", "imagefs.inodesFree"
PID = "pid.available"

CONDITIONS = {
    MEMORY: "MemoryPressure",
    ALLOCATABLE_MEMORY: "MemoryPressure",
    NODEFS: "DiskPressure",
    NODEFS_INODES: "DiskPressure",
    IMAGEFS: "DiskPressure",
    IMAGEFS_INODES: "DiskPressure",
    PID: "PIDPressure",
}
# The word for what is short, in messages and Events.
RESOURCES = {
    MEMORY: "memory",
    ALLOCATABLE_MEMORY: "memory",
    NODEFS: "ephemeral-storage",
    NODEFS_INODES: "inodes",
    IMAGEFS: "ephemeral-storage",
    IMAGEFS_INODES: "inodes",
    PID: "pids",
}
# Memory first: it runs out fastest. Then kubelet's order: those that a pod can be blamed for.
_ORDER = (MEMORY, ALLOCATABLE_MEMORY, NODEFS, NODEFS_INODES, IMAGEFS, IMAGEFS_INODES, PID)


@dataclass(frozen=True, slots=True)
class Threshold:
    """How little of a signal may be left.

    Units:   amount: bytes, inodes or processes; fraction: of the capacity. grace_s: 0 for a hard threshold.
    """

    signal: str
    amount: Decimal = Decimal(0)
    fraction: Decimal | None = None
    grace_s: float = 0.0

    def quantity(self, capacity: int) -> Decimal:
        """Return the amount that it means where there is `capacity`."""
        return self.amount if self.fraction is None else self.fraction * capacity // 1


@dataclass(frozen=True, slots=True)
class Observation:
    """How much of a signal there is, and how much is left."""

    available: int
    capacity: int


Observations = Mapping[str, Observation]


def parse_thresholds(
    key: str, written: Mapping[str, str], grace: Mapping[str, float] | None = None
) -> list[Threshold]:
    """Return the thresholds of a setting, as kubelet writes them: `memory.available: 100Mi`, or `10%`.

    Shapes:  key: the setting's name, for the error. grace: signal -> seconds, for soft ones; None: hard ones.
    Raises:  ConfigError: no such signal, no such amount, or a soft one without its grace.
    """
    found: list[Threshold] = []
    for signal, text in written.items():
        if signal not in CONDITIONS:
            allowed = ", ".join(CONDITIONS)
            raise ConfigError(SETTINGS, f"{key}.{signal}", f"is not one of {allowed}")
        grace_s = 0.0 if grace is None else grace.get(signal, 0.0)
        if grace is not None and grace_s <= 0:
            raise ConfigError(SETTINGS, f"{key}.{signal}", "has no grace of more than 0 s")
        amount, fraction = _parse(key, signal, str(text).strip())
        if amount or fraction:  # kubelet too: 0 switches a threshold off
            found.append(Threshold(signal, amount, fraction, grace_s))
    return found


def parse_hard_thresholds(key: str, written: Mapping[str, str]) -> list[Threshold]:
    """Return the hard thresholds of a setting, and the one of all pods' memory, which is the node's if not given.

    Raises:  ConfigError: as `parse_thresholds`.
    Source:  kubelet adds it where node allocatable is enforced; where it is not, nobody observes the signal.
    """
    found = parse_thresholds(key, written)
    if ALLOCATABLE_MEMORY not in written:
        found += [replace(t, signal=ALLOCATABLE_MEMORY) for t in found if t.signal == MEMORY]
    return found


def met(thresholds: Iterable[Threshold], observations: Observations) -> list[Threshold]:
    """Return the thresholds whose signal has too little left, the most urgent first."""
    short = [
        threshold
        for threshold in thresholds
        if (seen := observations.get(threshold.signal)) is not None
        and seen.available < threshold.quantity(seen.capacity)
    ]
    return sorted(short, key=lambda t: (_ORDER.index(t.signal), t.grace_s))


@dataclass(frozen=True, slots=True)
class PressureState:
    """What is remembered from one look to the next; Unix seconds.

    Shapes:  first_met: threshold -> since when it is met. last_seen: condition -> when it last held.
    """

    first_met: Mapping[Threshold, float]
    last_seen: Mapping[str, float]

    @staticmethod
    def calm() -> PressureState:
        """Return the state in which nothing is short."""
        return PressureState({}, {})

    def conditions(self, now_s: float, transition_s: float) -> tuple[str, ...]:
        """Return the conditions that hold: those seen within the transition period, so that none flaps."""
        return tuple(
            kind
            for kind in dict.fromkeys(CONDITIONS.values())
            if kind in self.last_seen and 0 <= now_s - self.last_seen[kind] < transition_s
        )


def observe(state: PressureState, short: Sequence[Threshold], now_s: float) -> PressureState:
    """Return the state after `short` thresholds were found met now."""
    first_met = {threshold: state.first_met.get(threshold, now_s) for threshold in short}
    seen = dict.fromkeys((CONDITIONS[threshold.signal] for threshold in short), now_s)
    # A clock that was set back must not keep a condition for ever.
    before = {kind: min(at_s, now_s) for kind, at_s in state.last_seen.items()}
    return PressureState(first_met, {**before, **seen})


def due(state: PressureState, now_s: float) -> list[Threshold]:
    """Return the met thresholds whose grace is over, the most urgent first."""
    over = [t for t, since_s in state.first_met.items() if now_s - since_s >= t.grace_s]
    return sorted(over, key=lambda t: (_ORDER.index(t.signal), t.grace_s))


def _parse(key: str, signal: str, text: str) -> tuple[Decimal, Decimal | None]:
    try:
        if text.endswith("%"):
            fraction = Decimal(text[:-1]) / 100
            if not 0 <= fraction <= 1:
                raise ValueError(f"{text} is not within 0% and 100%")
            return Decimal(0), fraction
        amount = parse_quantity(text)
        if amount < 0:
            raise ValueError(f"{text} is less than 0")
        return amount, None
    except (ValueError, ArithmeticError) as exc:
        problem = str(exc) if isinstance(exc, ValueError) else f"{text!r} is not a percentage"
        raise ConfigError(SETTINGS, f"{key}.{signal}", problem) from exc
