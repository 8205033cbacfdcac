"""What edged must remember of a pod beyond the life of its own process; stored with the pod's status."""

from __future__ import annotations

from typing import Any

import msgspec

EVICTED = "Evicted"  # the reason of a pod that is ended because something of the node runs short


class Waiting(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why a container does not run: kubelet's word and sentence.

    Units:   since_s, retry_s: Unix seconds of the failure and of the next attempt.
    """

    reason: str
    message: str = ""
    since_s: float = 0.0
    retry_s: float = 0.0
    delay_s: float = 0.0  # of an image's back-off, to double it
    image: str = ""  # that was tried; another one is tried at once


class BackOff(msgspec.Struct, kw_only=True):
    """A container's crash back-off: `delay_s` counts from its exit; `updated_s` is the exit that set it."""

    delay_s: float
    updated_s: float


class Exit(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a container ended."""

    id: str = ""
    attempt: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    started_s: float = 0.0
    finished_s: float = 0.0
    image: str = ""
    image_id: str = ""


class ContainerMemory(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One container; `attempt` is its restart count, -1 before the first start."""

    attempt: int = -1
    image: str = ""  # as the spec had it when this attempt was created
    restart: int = -1  # the attempt that was stopped to be started again, whatever its exit code
    last_exit: Exit | None = None
    previous_exit: Exit | None = None  # of the attempt before: `lastState`
    back_off: BackOff | None = None
    waiting: Waiting | None = None


class PodMemory(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One pod.

    Shapes:  outcome: "" | Succeeded | Failed, final once set. ended: the cloud was told that the pod is gone.
             status: as last reported.
    """

    namespace: str
    name: str
    start_s: float = 0.0
    grace_s: float = 30.0
    outcome: str = ""
    reason: str = ""
    message: str = ""
    ended: bool = False
    admitted: bool = False  # this node took the pod, and never refuses it later
    rejected: bool = False  # this node refused the pod: nothing of it ever ran
    end_grace_s: float | None = None  # of an eviction, in place of the pod's own
    disruption: str = ""  # why kubelet ends the pod: message of the condition DisruptionTarget
    warned: bool = False  # of fields that are not served: once per pod, also across restarts
    init_names: tuple[str, ...] = ()
    containers: dict[str, ContainerMemory] = {}
    status: dict[str, Any] = {}

    @property
    def evicted(self) -> bool:
        """Return whether the pod was ended to give back what it took: nothing of it is kept."""
        return self.outcome == "Failed" and self.reason == EVICTED

    def of(self, container: str) -> ContainerMemory:
        """Return what is known of `container`; a fresh note if nothing is."""
        return self.containers.setdefault(container, ContainerMemory())
