"""Errors of the API as Kubernetes words them; each becomes one metav1.Status."""

from __future__ import annotations

from typing import Any

from corekit.errors import EdgeError
from kubecore.kinds.resource import Resource
from kubecore.values.invalid import InvalidObjectError


class ApiStatusError(EdgeError):
    """A request is refused; `body()` is the Status that the client gets."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        continue_token: str = "",
    ) -> None:
        self.status, self.reason, self.message = status, reason, message
        self.details, self.continue_token = details, continue_token
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        """Return the metav1.Status."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.continue_token} if self.continue_token else {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.status,
        }
        if self.details:
            status["details"] = self.details
        return status


def bad_request(message: str) -> ApiStatusError:
    """Return a 400: the request cannot be understood."""
    return ApiStatusError(400, "BadRequest", message)


def not_found(resource: Resource, name: str) -> ApiStatusError:
    """Return a 404: no object of that name."""
    return ApiStatusError(
        404,
        "NotFound",
        f'{resource.group_resource} "{name}" not found',
        details=about(resource, name),
    )


def unknown_path() -> ApiStatusError:
    """Return the 404 of a path that is not served."""
    return ApiStatusError(
        404, "NotFound", "the server could not find the requested resource", details={}
    )


def already_exists(resource: Resource, name: str) -> ApiStatusError:
    """Return a 409: the name is taken."""
    return ApiStatusError(
        409,
        "AlreadyExists",
        f'{resource.group_resource} "{name}" already exists',
        details=about(resource, name),
    )


def conflict(resource: Resource, name: str, problem: str) -> ApiStatusError:
    """Return a 409: the object is not as the client thought."""
    return ApiStatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {resource.group_resource} "{name}": {problem}',
        details=about(resource, name),
    )


def modified(resource: Resource, name: str) -> ApiStatusError:
    """Return the conflict of a write that names an old resourceVersion."""
    return conflict(
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )


def forbidden(resource: Resource, name: str, problem: str) -> ApiStatusError:
    """Return a 403 that is about one object rather than about the user."""
    return ApiStatusError(
        403,
        "Forbidden",
        f'{resource.group_resource} "{name}" is forbidden: {problem}',
        details=about(resource, name),
    )


def invalid(resource: Resource, exc: InvalidObjectError) -> ApiStatusError:
    """Return a 422 with every broken rule as a cause."""
    causes = [{"reason": c.reason, "message": c.message, "field": c.field} for c in exc.causes]
    details = about(resource, exc.name) | {"kind": resource.kind, "causes": causes}
    return ApiStatusError(422, "Invalid", str(exc), details=details)


def gone(message: str, continue_token: str = "") -> ApiStatusError:
    """Return a 410: the client has to list again."""
    return ApiStatusError(410, "Expired", message, continue_token=continue_token)


def unsupported_media(message: str) -> ApiStatusError:
    """Return a 415."""
    return ApiStatusError(415, "UnsupportedMediaType", message)


def method_not_allowed() -> ApiStatusError:
    """Return a 405."""
    return ApiStatusError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    )


def about(resource: Resource, name: str) -> dict[str, Any]:
    """Return the `details` that name an object."""
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return {key: value for key, value in details.items() if value}
