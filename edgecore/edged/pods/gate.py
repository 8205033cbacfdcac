"""A pod's way onto the node: asked once, remembered for good; a pod that was taken is never refused later."""

from __future__ import annotations

import logging
from typing import Any

from corekit.timestamps import rfc3339
from edgecore.edged.admission.decide import Refusal
from edgecore.edged.admission.demands import Demands, demands_of
from edgecore.edged.machine.memory import PodMemory
from edgecore.edged.pods.reporter import PodReporter
from edgecore.edged.pods.site import Site
from edgecore.edged.spec.podspec import Pod

# What is judged by the Node object, whose newest state the cloud has.
_OF_THE_NODE_OBJECT = ("NodeAffinity", "TaintToleration")
logger = logging.getLogger(__name__)


class Gate:
    """One pod's admission, kept in its memory."""

    def __init__(self, site: Site, uid: str, memory: PodMemory, reporter: PodReporter) -> None:
        self._site, self._uid, self._memory, self._reporter = site, uid, memory, reporter
        self._demands: Demands | None = None

    @property
    def demands(self) -> Demands | None:
        """Return what the pod asks of the node; None before its record was understood."""
        return self._demands

    def take(self, pod: Pod, tree: dict[str, Any]) -> None:
        """Take the pod's newest record."""
        self._demands = demands_of(pod, tree)
        if self._memory.admitted and not self._memory.outcome:
            self._site.admission.hold(self._demands)

    async def passes(self, pod: Pod) -> bool:
        """Return whether the pod may run here; a refusal is final and told. Raises: RuntimeUnavailableError."""
        memory, demands = self._memory, self._demands
        if memory.rejected:
            return False
        if memory.admitted or memory.outcome or pod.is_deleting or demands is None:
            return True
        if await self._site.runtime.sandbox(self._uid):
            # It runs, so it was taken: this agent's database was lost.
            self._site.admission.hold(demands)
            memory.admitted = True
            return True
        # What no room could help comes first: asking for room takes it.
        refusal = await self._site.provision.refusal(pod) or await self._ask(demands)
        memory.admitted = refusal is None
        if refusal is None:
            return True
        memory.rejected, memory.outcome = True, "Failed"
        memory.reason, memory.message = refusal.reason, f"Pod was rejected: {refusal.message}"
        memory.start_s = memory.start_s or self._site.clock()
        self._reporter.emit(refusal.reason, refusal.message, "", True)
        extra = {"pod": f"{memory.namespace}/{memory.name}"}
        logger.warning("pod refused: %s: %s", refusal.reason, refusal.message, extra=extra)
        return False

    async def _ask(self, demands: Demands) -> Refusal | None:
        """Return why the node has no place for the pod; labels and taints are looked up anew before they refuse."""
        refusal = self._site.admission.ask(demands)
        if (
            refusal is not None
            and refusal.reason in _OF_THE_NODE_OBJECT
            and await self._site.node_facts.refresh()
        ):
            refusal = self._site.admission.ask(demands)
        return refusal

    def status(self) -> dict[str, Any]:
        """Return the status of a refused pod: it has no containers to tell of."""
        memory = self._memory
        status = {"phase": "Failed", "reason": memory.reason, "message": memory.message}
        status["startTime"] = rfc3339(memory.start_s)
        if self._demands is not None:
            status["qosClass"] = self._demands.qos
        return status

    def leave(self) -> None:
        """Free the pod's place: nothing of it runs any more."""
        self._site.admission.leave(self._uid)
