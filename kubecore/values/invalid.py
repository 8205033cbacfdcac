"""How an object can be wrong. The API front turns these into Status answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from corekit.errors import EdgeError

# A cause quotes the offending value; a megabyte of it helps nobody.
MAX_SHOWN_CHARS = 256


@dataclass(frozen=True)
class Cause:
    """One thing that is wrong with one field, as `Status.details.causes` carries it."""

    field: str
    reason: str  # FieldValueRequired | FieldValueInvalid | FieldValueNotSupported | ...
    message: str

    def __str__(self) -> str:
        """Return `field: message`, one clause of the Status message."""
        return f"{self.field}: {self.message}"


class InvalidObjectError(EdgeError):
    """The object decodes but breaks rules of its kind: 422 Invalid.

    The text is the API server's: `Pod "web" is invalid: spec.containers: Required value`.
    """

    def __init__(self, kind: str, name: str, causes: list[Cause]) -> None:
        self.kind, self.name, self.causes = kind, name, causes
        clauses = ", ".join(str(cause) for cause in causes)
        if len(causes) > 1:
            clauses = f"[{clauses}]"
        super().__init__(f'{kind} "{name}" is invalid: {clauses}')


class StrictDecodingError(EdgeError):
    """The body does not decode into its kind: a wrong type, or under Strict an unknown field. 400 BadRequest."""

    def __init__(self, version: str, kind: str, problem: str) -> None:
        self.message = f'{kind} in version "{version}" cannot be handled as a {kind}: {problem}'
        super().__init__(self.message)


def required(field: str, detail: str = "") -> Cause:
    """Return the cause for a field that must be there."""
    return Cause(field, "FieldValueRequired", _joined("Required value", detail))


def invalid(field: str, value: Any, detail: str) -> Cause:
    """Return the cause for a value that breaks a rule."""
    return Cause(field, "FieldValueInvalid", f"Invalid value: {shown(value)}: {detail}")


def not_supported(field: str, value: Any, supported: list[str]) -> Cause:
    """Return the cause for a value outside its enumeration."""
    known = ", ".join(f'"{name}"' for name in sorted(supported))
    text = f"Unsupported value: {shown(value)}: supported values: {known}"
    return Cause(field, "FieldValueNotSupported", text)


def duplicate(field: str, value: Any) -> Cause:
    """Return the cause for an entry that is there twice."""
    return Cause(field, "FieldValueDuplicate", f"Duplicate value: {shown(value)}")


def not_found(field: str, value: Any) -> Cause:
    """Return the cause for a name that refers to nothing."""
    return Cause(field, "FieldValueNotFound", f"Not found: {shown(value)}")


def forbidden(field: str, detail: str) -> Cause:
    """Return the cause for a field that must not be set or changed."""
    return Cause(field, "FieldValueForbidden", f"Forbidden: {detail}")


def too_long(field: str, limit: int) -> Cause:
    """Return the cause for a value over its limit of bytes."""
    return Cause(field, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")


def shown(value: Any) -> str:
    """Return `value` as a message quotes it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "..."


def _joined(head: str, detail: str) -> str:
    return f"{head}: {detail}" if detail else head
