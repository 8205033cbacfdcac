"""What a node says of a device, checked and cut down to what a node may say. Pure."""

from __future__ import annotations

from enum import Enum

import msgspec
from msgspec import UNSET, Struct, UnsetType

from cloudcore.kube.errors import KubeConflictError, KubeForbiddenError, KubeNotFoundError
from cloudcore.kube.resources import KubeObject
from corekit.errors import EdgeError, KubeApiError
from devicemodels.objects import ObjectDecodeError, StatusTwin, decode_device


class RefusedReportError(EdgeError):
    """A report that must not reach the API."""


class _Status(Struct, rename="camel", omit_defaults=True):
    # A node owns these fields and no others: conditions are the cloud's to write.
    twins: tuple[StatusTwin, ...] | UnsetType = UNSET
    twins_generation: int | UnsetType = UNSET
    state: str | UnsetType = UNSET
    last_online_time: str | UnsetType = UNSET


class _Report(Struct):
    status: _Status


_decoder = msgspec.json.Decoder(_Report)


def status_patch(uid: str, body: bytes) -> bytes:
    """Return the merge patch for `devices/{name}/status` that a report amounts to.

    The uid is in it as a precondition: the API server refuses it for a device of the same name made since.
    Raises:  RefusedReportError: the report does not have the shape of one.
    """
    try:
        report = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise RefusedReportError(f"is not a device report: {exc}") from exc
    return msgspec.json.encode({"metadata": {"uid": uid}, "status": report.status})


def check_reporter(obj: KubeObject, uid: str, node: str) -> None:
    """Refuse a report of another incarnation of the device, or by a node that does not have the device.

    Raises:  RefusedReportError.
    """
    if obj.uid != uid:
        raise RefusedReportError(f"is of uid {uid}, and the device's is {obj.uid}")
    try:
        holder = decode_device(obj.body).spec.node_name
    except ObjectDecodeError as exc:
        raise RefusedReportError(str(exc)) from exc
    if holder != node:
        raise RefusedReportError(f"comes from node {node}, and the device is on {holder or 'none'}")


class Verdict(Enum):
    """What to do about a write that failed."""

    RETRY = "retry"
    DROP = "drop"
    LOOK_AGAIN = "look again"


def after_error(exc: KubeApiError) -> Verdict:
    """Tell what can still come of a write that the API server answered with `exc`."""
    if isinstance(exc, KubeNotFoundError):
        return Verdict.DROP
    if isinstance(exc, KubeConflictError):
        return Verdict.LOOK_AGAIN
    # Forbidden is an operator's mistake, mended while we run; everything else below 500 is in the report.
    if exc.retryable or isinstance(exc, KubeForbiddenError):
        return Verdict.RETRY
    return Verdict.DROP
