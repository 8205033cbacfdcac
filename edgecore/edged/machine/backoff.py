"""kubelet's back-offs: how long a container that crashed, or an image that cannot be had, waits; pure."""

from __future__ import annotations

from edgecore.edged.machine.memory import BackOff, ContainerMemory, Waiting
from edgecore.edged.runtime import ContainerPhase, ContainerState
from edgecore.edged.spec.podspec import Container, Pod

FIRST_S = 10.0
LIMIT_S = 300.0
FORGET_S = 2 * LIMIT_S  # a container that ran this long starts from the first delay again
IMAGE_BACK_OFF_SHOWN_S = 2.0  # ErrImagePull stands this long before it reads ImagePullBackOff
RETRY_S = 10.0  # of refusals other than images: a missing ConfigMap, a failed create
POST_START_ERROR = "PostStartHookError"
# Refusals of a pull: each doubles the wait, and is shown as ImagePullBackOff after a moment.
PULL_ERRORS = ("ErrImagePull", "RegistryUnavailable", "SignatureValidationFailed")
IMAGE_ERRORS = (*PULL_ERRORS, "ImagePullBackOff")


def go_duration(seconds: float) -> str:
    """Return whole seconds as Go prints a duration: 10s, 1m20s, 5m0s."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def crash_hold(
    pod: Pod,
    container: Container,
    note: ContainerMemory,
    state: ContainerState | None,
    now_s: float,
) -> Waiting | None:
    """Return CrashLoopBackOff if `container`, which ended as `state` says, must wait."""
    back_off, exited_s = note.back_off, _exited_s(state)
    if back_off is None or exited_s is None or exited_s - back_off.updated_s > FORGET_S:
        return None
    # A clock that was set back must not stretch the wait beyond the delay itself.
    if not -back_off.delay_s < now_s - exited_s < back_off.delay_s:
        return None
    return Waiting(
        reason="CrashLoopBackOff",
        message=f"back-off {go_duration(back_off.delay_s)} restarting failed "
        f"container={container.name} pod={pod.full_name}",
        since_s=exited_s,
        retry_s=exited_s + back_off.delay_s,
    )


def next_back_off(note: ContainerMemory, state: ContainerState | None) -> BackOff | None:
    """Return the back-off to keep when the container is started again after `state`."""
    exited_s = _exited_s(state)
    if exited_s is None:
        return note.back_off
    previous = note.back_off
    if previous is not None and previous.updated_s == exited_s:
        return previous  # this exit has been counted; the start after it was refused
    if previous is None or exited_s - previous.updated_s > FORGET_S:
        return BackOff(delay_s=FIRST_S, updated_s=exited_s)
    return BackOff(delay_s=min(previous.delay_s * 2, LIMIT_S), updated_s=exited_s)


def failure_hold(container: Container, note: ContainerMemory, now_s: float) -> Waiting | None:
    """Return why a container whose last start was refused is not tried again yet."""
    failed = note.waiting
    if failed is not None and failed.image not in ("", container.image):
        return None
    if failed is None or not 0 < failed.retry_s - now_s <= failed.delay_s:
        return None
    shown_s = failed.since_s + IMAGE_BACK_OFF_SHOWN_S
    if failed.reason not in PULL_ERRORS or now_s < shown_s:
        # Looked at again when the word changes.
        retry_s = shown_s if failed.reason in PULL_ERRORS else failed.retry_s
        return Waiting(reason=failed.reason, message=failed.message, retry_s=retry_s)
    return Waiting(
        reason="ImagePullBackOff",
        message=f'Back-off pulling image "{container.image}": {failed.reason}: {failed.message}',
        retry_s=failed.retry_s,
    )


def refused(
    note: ContainerMemory, reason: str, message: str, now_s: float, *, image: str = ""
) -> Waiting:
    """Return the note of a start that was refused now; images back off, the rest is retried steadily."""
    delay_s = RETRY_S
    if reason in IMAGE_ERRORS:
        before = note.waiting
        same = before is not None and before.reason in IMAGE_ERRORS and before.image == image
        delay_s = (min(before.delay_s * 2, LIMIT_S) if before and same else 0.0) or FIRST_S
    elif reason == POST_START_ERROR:
        delay_s = 0.0  # the container ran: its crash back-off is the wait
    return Waiting(
        reason=reason,
        message=message,
        since_s=now_s,
        retry_s=now_s + delay_s,
        delay_s=delay_s,
        image=image,
    )


def _exited_s(state: ContainerState | None) -> float | None:
    """Return when the container ended, None if it did not."""
    if state is None or state.phase is not ContainerPhase.EXITED:
        return None
    return state.finished_s or state.created_s
