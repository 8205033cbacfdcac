"""What the Kubernetes API can answer that a caller reacts to, and how an answer becomes one of these."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from corekit.errors import KubeApiError

# Status messages name every offending field; more than this in one log line helps nobody.
MAX_MESSAGE_CHARS = 1000


class KubeUnreachableError(KubeApiError):
    """No usable answer: no connection, a deadline passed (status 0), or the server failed (5xx)."""

    retryable = True


class KubeUnauthorizedError(KubeApiError):
    """401: our credentials are not (or no longer) known; they may be renewed while we run."""

    retryable = True


class KubeForbiddenError(KubeApiError):
    """403: a right is missing; `impersonation` tells whether it is cloudcore's right to act for a node."""

    @property
    def impersonation(self) -> bool:
        """Whether an operator can mend this without the object changing."""
        return "cannot impersonate" in str(self)


class KubeNotFoundError(KubeApiError):
    """404."""


class KubeConflictError(KubeApiError):
    """409: it exists already, or a precondition (uid, resourceVersion) does not hold: re-read."""


class KubeGoneError(KubeApiError):
    """410: the resourceVersion or continue token is too old: list again."""


class KubeThrottledError(KubeApiError):
    """429: wait `retry_after_s` if it says so."""

    retryable = True


class KubeMalformedError(KubeApiError):
    """The reply is not what was asked for: not JSON, or larger than the limit its message names."""

    retryable = True


_BY_STATUS: dict[int, type[KubeApiError]] = {
    401: KubeUnauthorizedError,
    403: KubeForbiddenError,
    404: KubeNotFoundError,
    409: KubeConflictError,
    410: KubeGoneError,
    429: KubeThrottledError,
}


class _Details(msgspec.Struct):
    retryAfterSeconds: float | None = None  # noqa: N815  (the API's name)


class Status(msgspec.Struct):
    """The fields of meta/v1 Status that we read."""

    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


_status_decoder = msgspec.json.Decoder(Status)


def error_from_reply(
    what: str, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> KubeApiError:
    """Return the error for a reply with HTTP `status`; `what` names the request in its message."""
    try:
        said = _status_decoder.decode(body)
    except msgspec.DecodeError:  # a proxy in between answers with text or HTML
        said = Status(message=body[:200].decode(errors="replace").strip())
    return error_from_status(what, said, status, _retry_after_s(said, headers or {}))


def error_from_status(
    what: str, said: Status, code: int, retry_after_s: float | None = None
) -> KubeApiError:
    """Return the error for a Status object, such as the one in a watch's ERROR event."""
    kind = KubeUnreachableError if code >= 500 else _BY_STATUS.get(code, KubeApiError)
    message = f"{what}: {said.message or 'no message'}"[:MAX_MESSAGE_CHARS]
    return kind(code, said.reason or "", message, retry_after_s)


def _retry_after_s(said: Status, headers: Mapping[str, str]) -> float | None:
    header = headers.get("Retry-After", "")
    if header.isdecimal():  # the other legal form, a date, is not used by API servers
        return float(header)
    return said.details.retryAfterSeconds if said.details else None
