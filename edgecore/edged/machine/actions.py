"""What the pod state machine asks for: the actions, and the plan that holds them; pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgecore.edged.machine.memory import BackOff, Waiting


@dataclass(frozen=True)
class RunSandbox:
    """Make the pod's sandbox."""

    attempt: int


@dataclass(frozen=True)
class StopSandbox:
    """Stop a sandbox and give back its network; its dead containers stay for their logs."""

    id: str


@dataclass(frozen=True)
class RemoveSandbox:
    """Remove a sandbox with its containers."""

    id: str


@dataclass(frozen=True)
class StartContainer:
    """Fetch the image if the policy says so, then create and start; `back_off` is kept once it was tried."""

    name: str
    attempt: int
    back_off: BackOff | None = None


@dataclass(frozen=True)
class StopContainer:
    """preStop hook, SIGTERM, SIGKILL, all within the grace. Several in a row stop at the same time.

    Shapes:  after: ids whose end SIGTERM waits for, while there is grace left. restart: whatever the restart
             policy says, it is started again.
    """

    id: str
    name: str
    grace_s: float
    message: str
    after: tuple[str, ...] = ()
    restart: bool = False


@dataclass(frozen=True)
class RemoveContainer:
    """Remove a container that will not be looked at again."""

    id: str


Action = RunSandbox | StopSandbox | RemoveSandbox | StartContainer | StopContainer | RemoveContainer


@dataclass
class Plan:
    """What to do now, why the rest waits, and when to look again.

    Shapes:  holds: container name -> why it is not started now. outcome: set when the pod has just ended.
    """

    actions: list[Action] = field(default_factory=list)
    holds: dict[str, Waiting] = field(default_factory=dict)
    wake_s: float | None = None
    outcome: str = ""
    reason: str = ""
    message: str = ""

    def wake_at(self, moment_s: float) -> None:
        """Look again at `moment_s` at the latest."""
        self.wake_s = moment_s if self.wake_s is None else min(self.wake_s, moment_s)
