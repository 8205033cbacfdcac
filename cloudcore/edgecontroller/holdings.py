"""Which node must hold which keys, by counting references; a change touches only what it refers to. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from cloudcore.edgecontroller.references import Placement
from synccore.messages import ObjectKey


class Move(NamedTuple):
    """One key that a node begins (`held`) or ceases to have to hold."""

    node: str
    key: ObjectKey
    held: bool


class Holdings:
    """Owners (pods, devices) are on one node each, and bring what they refer to along.

    What is referred to may be a group: a key that stands for all its members of the moment.
    """

    def __init__(self) -> None:
        self._placements: dict[ObjectKey, Placement] = {}
        self._counts: dict[str, Counter[ObjectKey]] = {}
        self._holders: dict[ObjectKey, set[str]] = {}
        self._members: dict[ObjectKey, set[ObjectKey]] = {}

    def place(self, owner: ObjectKey, placement: Placement | None) -> list[Move]:
        """Put `owner` where `placement` says, or nowhere; return what moved, losses first."""
        before = self._placements.pop(owner, None)
        if placement is not None and placement.node is not None:
            self._placements[owner] = placement
        moves: dict[tuple[str, ObjectKey], bool] = {}
        # Counting up before down: what stays never looks lost in between.
        for node, key in self._brings(owner, placement):
            if self._count(node, key, 1) == 1:
                moves[node, key] = True
        for node, key in self._brings(owner, before):
            if self._count(node, key, -1) == 0:
                moves[node, key] = False
        # An owner comes after what it needs.
        return sorted(
            (Move(*at, held) for at, held in moves.items()), key=lambda m: (m.held, m.key == owner)
        )

    def join(self, group: ObjectKey, member: ObjectKey) -> list[Move]:
        """Make `member` one of `group`; return what moved."""
        members = self._members.setdefault(group, set())
        if member in members:
            return []
        members.add(member)
        return self._count_member(group, member, 1)

    def part(self, group: ObjectKey, member: ObjectKey) -> list[Move]:
        """Take `member` out of `group`; return what moved."""
        members = self._members.get(group, set())
        if member not in members:
            return []
        members.discard(member)
        if not members:
            del self._members[group]
        return self._count_member(group, member, -1)

    def holders(self, key: ObjectKey) -> frozenset[str]:
        """Return the nodes that must hold `key`."""
        return frozenset(self._holders.get(key, ()))

    def held(self, node: str) -> list[ObjectKey]:
        """Return all keys that `node` must hold."""
        return list(self._counts.get(node, ()))

    def holds(self, node: str, key: ObjectKey) -> bool:
        """Tell whether `node` must hold `key`."""
        return key in self._counts.get(node, ())

    def node_of(self, owner: ObjectKey) -> str | None:
        """Return the node a pod or device is on, or None."""
        placement = self._placements.get(owner)
        return placement.node if placement else None

    def _count_member(self, group: ObjectKey, member: ObjectKey, step: int) -> list[Move]:
        """Count `member` once for each owner that refers to `group`."""
        moves: list[Move] = []
        for node in self.holders(group):
            before = self.holds(node, member)
            self._count(node, member, step * self._counts[node][group])
            if self.holds(node, member) != before:
                moves.append(Move(node, member, held=not before))
        return moves

    def _brings(
        self, owner: ObjectKey, placement: Placement | None
    ) -> Iterable[tuple[str, ObjectKey]]:
        if placement is None or placement.node is None:
            return
        for key in (owner, *placement.refers):
            yield placement.node, key
            for member in self._members.get(key, ()):
                yield placement.node, member

    def _count(self, node: str, key: ObjectKey, step: int) -> int:
        counts = self._counts.setdefault(node, Counter())
        counts[key] += step
        if counts[key]:
            self._holders.setdefault(key, set()).add(node)
            return counts[key]
        del counts[key]
        if not counts:
            del self._counts[node]
        nodes = self._holders[key]
        nodes.discard(node)
        if not nodes:
            del self._holders[key]
        return 0
