"""Who has a place on this node, and whether one more gets one. Called from the event loop only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from edgecore.edged.admission.decide import NodeFacts, Refusal, decide
from edgecore.edged.admission.demands import Demands
from edgecore.edged.admission.matching import Taint
from edgecore.edged.admission.preemption import victims

logger = logging.getLogger(__name__)


class AdmissionBook:
    """The places on one node.

    Shapes:  make_room: called with each pod that must end for the sake of a critical one.
    """

    def __init__(self, node_name: str, make_room: Callable[[Demands], None]) -> None:
        self._facts = NodeFacts(node_name)
        self._make_room = make_room
        self._places: dict[str, Demands] = {}

    @property
    def node(self) -> NodeFacts:
        """Return what is known of the node."""
        return self._facts

    def know_resources(self, allocatable: Mapping[str, Decimal]) -> None:
        """Take what pods may use in total."""
        self._facts = replace(self._facts, allocatable=dict(allocatable))

    def know_node(self, labels: Mapping[str, str] | None, taints: Sequence[Taint] | None) -> None:
        """Take the labels and taints of the Node object; None: not known, so not judged."""
        self._facts = replace(self._facts, labels=labels, taints=taints)

    def know_pressures(self, pressures: Sequence[str]) -> None:
        """Take the node's pressure conditions that hold now."""
        self._facts = replace(self._facts, pressures=tuple(pressures))

    def hold(self, demands: Demands) -> None:
        """Give a place without asking: the pod was taken before, or its record has changed."""
        self._places[demands.uid] = demands

    def leave(self, uid: str) -> None:
        """Free the pod's place."""
        self._places.pop(uid, None)

    def ask(self, demands: Demands) -> Refusal | None:
        """Give the pod a place, or return why not; for a critical pod others may have to go."""
        others = [other for uid, other in self._places.items() if uid != demands.uid]
        refusal = decide(demands, self._facts, others)
        if refusal is not None and refusal.shortage and demands.critical:
            ended = victims(demands, refusal.shortage, others)
            for victim in ended or ():
                logger.warning(
                    "ending a pod to make room for critical pod %s/%s",
                    demands.namespace, demands.name,
                    extra={"pod": f"{victim.namespace}/{victim.name}"},
                )  # fmt: skip
                self.leave(victim.uid)
                self._make_room(victim)
            refusal = refusal if ended is None else None
        if refusal is None:
            self.hold(demands)
        return refusal
