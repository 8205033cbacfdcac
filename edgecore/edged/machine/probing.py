"""The probes of one pod: when each is due, and what its answers mean for its container; pure: no I/O, no clock.

kubelet's rules: a verdict turns after so many equal answers in a row; startup holds back the other two; a
container that failed startup or liveness is not asked again before it has been replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from edgecore.edged.runtime import ContainerPhase, ContainerState
from edgecore.edged.spec.lifecycle import Probe
from edgecore.edged.spec.podspec import Container, Pod


class ProbeKind(Enum):
    """Which question."""

    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"


class Answer(Enum):
    """What one run of a probe said; UNKNOWN: it could not be run, which changes nothing."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Health:
    """What probes and hooks say of a pod's running containers; empty: nothing is wrong.

    Shapes:  unstarted, unready: container ids. failed: container id -> the probe's kind as kubelet writes it.
             starting: names of containers whose start (with its postStart hook) has not ended.
    """

    unstarted: frozenset[str] = frozenset()
    unready: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict)
    starting: frozenset[str] = frozenset()


HEALTHY = Health()


@dataclass
class ContainerProbe:
    """One probe of one container instance.

    Units:   due_s: seconds of the caller's clock.
    """

    kind: ProbeKind
    spec: Probe
    container: Container
    container_id: str
    due_s: float
    verdict: Answer
    in_a_row: int = 0
    last: Answer = Answer.UNKNOWN
    over: bool = (
        False  # never asked again: it failed for good, its container has started or is gone
    )

    def take(self, answer: Answer, now_s: float) -> bool:
        """Count `answer`; return whether the verdict turned."""
        self.due_s = now_s + self.spec.period_s
        if answer is Answer.UNKNOWN or self.over:
            return False
        self.in_a_row = self.in_a_row + 1 if answer is self.last else 1
        self.last = answer
        needed = self.spec.successes if answer is Answer.SUCCESS else self.spec.failures
        if self.in_a_row < needed:
            return False
        if answer is Answer.FAILURE and self.kind is not ProbeKind.READINESS:
            self.over = True
        if answer is Answer.SUCCESS and self.kind is ProbeKind.STARTUP:
            self.over = True
        turned, self.verdict = self.verdict is not answer, answer
        return turned


@dataclass
class PodProbes:
    """All probes of one pod."""

    probes: dict[tuple[str, ProbeKind], ContainerProbe] = field(default_factory=dict)

    def observe(
        self,
        pod: Pod,
        running: Iterable[ContainerState],
        adopted: Mapping[str, tuple[bool, bool]],
        *,
        now_s: float,
        wall_s: float,
    ) -> list[ContainerProbe]:
        """Follow the containers that run; return the probes that are new.

        Shapes:  adopted: container id -> (started, ready) as last reported; such a container keeps both until
                 its first answer.
        Units:   now_s: seconds of the clock that `due_s` is of; wall_s: Unix seconds.
        """
        alive = {c.id: c for c in running if c.phase is ContainerPhase.RUNNING}
        for key, probe in list(self.probes.items()):
            if key[0] not in alive:
                probe.over = True
                del self.probes[key]
        made: list[ContainerProbe] = []
        specs = {c.name: c for c in (*pod.spec.init_containers, *pod.spec.containers)}
        for state in alive.values():
            container = specs.get(state.name)
            if container is None or (
                container in pod.spec.init_containers and not container.is_sidecar
            ):
                continue
            known = adopted.get(state.id, (False, False))
            age_s = max(wall_s - state.started_s, 0.0)
            for kind, spec in _specs(container):
                if (state.id, kind) not in self.probes:
                    due_s = now_s + max(spec.initial_delay_seconds - age_s, 0.0)
                    probe = ContainerProbe(
                        kind, spec, container, state.id, due_s, _before(kind, *known)
                    )
                    probe.over = kind is ProbeKind.STARTUP and known[0]
                    self.probes[state.id, kind] = probe
                    made.append(probe)
        return made

    def may_run(self, probe: ContainerProbe) -> bool:
        """Return whether `probe` is to be asked now, if it is due."""
        return not probe.over and (
            probe.kind is ProbeKind.STARTUP or self._started(probe.container_id)
        )

    def take(
        self, probe: ContainerProbe, answer: Answer, now_s: float
    ) -> tuple[bool, ContainerProbe | None]:
        """Count an answer; return whether its verdict turned, and a probe that is due at once because of it."""
        turned = probe.take(answer, now_s)
        if not (turned and probe.kind is ProbeKind.STARTUP and answer is Answer.SUCCESS):
            return turned, None
        readiness = self.probes.get((probe.container_id, ProbeKind.READINESS))
        if readiness is not None:  # nobody waits a period for what may be true now
            readiness.due_s = min(readiness.due_s, now_s)
        return turned, readiness

    def health(self, starting: Iterable[str] = ()) -> Health:
        """Return what the verdicts say now."""
        unstarted, unready, failed = set(), set(), {}
        for (container_id, kind), probe in self.probes.items():
            if kind is ProbeKind.STARTUP and probe.verdict is not Answer.SUCCESS:
                unstarted.add(container_id)
            if kind is ProbeKind.READINESS and probe.verdict is not Answer.SUCCESS:
                unready.add(container_id)
            if kind is not ProbeKind.READINESS and probe.verdict is Answer.FAILURE:
                failed[container_id] = kind.value
        return Health(
            frozenset(unstarted), frozenset(unready | unstarted), failed, frozenset(starting)
        )

    def _started(self, container_id: str) -> bool:
        startup = self.probes.get((container_id, ProbeKind.STARTUP))
        return startup is None or startup.verdict is Answer.SUCCESS


def _specs(container: Container) -> list[tuple[ProbeKind, Probe]]:
    pairs = (
        (ProbeKind.STARTUP, container.startup_probe),
        (ProbeKind.LIVENESS, container.liveness_probe),
        (ProbeKind.READINESS, container.readiness_probe),
    )
    return [(kind, spec) for kind, spec in pairs if spec is not None]


def _before(kind: ProbeKind, started: bool, ready: bool) -> Answer:  # noqa: FBT001
    """Return the verdict before the first answer: alive, not ready, not started; as it was if adopted."""
    if kind is ProbeKind.LIVENESS:
        return Answer.SUCCESS
    if started if kind is ProbeKind.STARTUP else ready:
        return Answer.SUCCESS
    return Answer.UNKNOWN if kind is ProbeKind.STARTUP else Answer.FAILURE
