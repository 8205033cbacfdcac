"""What the probes of one pod say: follows its containers, takes the answers, tells kubelet's Events."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from typing import Any

from edgecore.edged.machine.memory import PodMemory
from edgecore.edged.machine.probing import (
    Answer,
    ContainerProbe,
    Health,
    PodProbes,
    ProbeKind,
)
from edgecore.edged.machine.view import View
from edgecore.edged.pods.reporter import PodReporter
from edgecore.edged.pods.site import Site
from edgecore.edged.probes.checks import Finding
from edgecore.edged.runtime import ContainerPhase
from edgecore.edged.spec.podspec import Pod


class PodHealth:
    """One pod's probes; `wake` is set when a verdict turned or there is an Event to send."""

    def __init__(
        self, site: Site, memory: PodMemory, reporter: PodReporter, wake: asyncio.Event
    ) -> None:
        self._site, self._reporter, self._wake = site, reporter, wake
        self._probes = PodProbes()
        self._adopted = _reported(memory.status)
        self.ending = False
        self.probe_address = ""

    def observe(
        self, pod: Pod, view: View, pod_ips: Sequence[str], starting: Iterable[str]
    ) -> None:
        """Follow what runs; a container whose start has not ended is not asked yet."""
        busy = set(starting)
        running = [
            c for c in view.alive if c.phase is ContainerPhase.RUNNING and c.name not in busy
        ]
        self.probe_address = "".join(pod_ips[:1])
        prober = self._site.prober
        made = self._probes.observe(
            pod, running, self._adopted, now_s=prober.now(), wall_s=self._site.clock()
        )
        for probe in made:
            if probe.container_id in self._adopted:
                # The agent has just come back: all probes of the node at once would be a storm.
                probe.due_s += random.random() * probe.spec.period_s
            prober.add(probe, self)

    def now(self, starting: Iterable[str]) -> Health:
        """Return what the verdicts say now."""
        return self._probes.health(starting)

    def may_be_asked(self, probe: ContainerProbe) -> bool:
        """Return whether `probe` is to be asked now; of a pod that ends only readiness matters."""
        if self.ending and probe.kind is not ProbeKind.READINESS:
            return False
        return self._probes.may_run(probe)

    def answered(self, probe: ContainerProbe, finding: Finding, asked_s: float) -> None:
        """Take an answer."""
        if probe.over:
            return  # its container is gone
        turned, hastened = self._probes.take(probe, finding.answer, asked_s)
        if hastened is not None:
            self._site.prober.add(hastened, self)
        told = self._tell(probe, finding)
        if turned or told:
            self._wake.set()

    def _tell(self, probe: ContainerProbe, finding: Finding) -> bool:
        word, name = probe.kind.value.capitalize(), probe.container.name
        if finding.warning:
            self._reporter.emit("ProbeWarning", f"{word} probe warning: {finding.text}", name, True)
        elif finding.answer is Answer.FAILURE:
            self._reporter.emit("Unhealthy", f"{word} probe failed: {finding.text}", name, True)
        elif finding.answer is Answer.UNKNOWN and finding.text:
            message = f"{word} probe errored and resulted in unknown state: {finding.text}"
            self._reporter.emit("Unhealthy", message, name, True)
        else:
            return False
        return True


def _reported(status: dict[str, Any]) -> dict[str, tuple[bool, bool]]:
    """Return container id -> (started, ready) as last reported."""
    lists = (status.get(k, ()) for k in ("initContainerStatuses", "containerStatuses"))
    return {
        s["containerID"].rpartition("//")[2]: (bool(s.get("started")), bool(s.get("ready")))
        for statuses in lists
        for s in statuses
        if s.get("containerID")
    }
