"""How objects, lists and errors are written into HTTP answers. Lists are joined bytes, never encoded again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from aiohttp import web

from kubecore.errors import ApiStatusError, bad_request
from kubecore.kinds.resource import Resource
from kubecore.objects.pages import Page
from kubecore.printing.tables import IncludeObject, table
from kubecore.serving.requests import Form
from kubecore.storage.store import Object, StoredObject

_encode = msgspec.json.Encoder().encode
_INCLUDE = ("Metadata", "Object", "None")


class _SentStatus(msgspec.Struct):
    message: str
    reason: str = ""


_REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound"}


def _reason(status: int) -> str:
    return _REASONS.get(status, "InternalError")


def answer(body: bytes | Object, status: int = 200, warnings: Sequence[str] = ()) -> web.Response:
    """Return a JSON answer, ended by a newline as clients that print it expect."""
    raw = body if isinstance(body, bytes) else _encode(body)
    response = web.Response(body=raw + b"\n", status=status, content_type="application/json")
    for warning in warnings:
        escaped = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')
    return response


def error_answer(error: ApiStatusError) -> web.Response:
    """Return the Status of a refused request."""
    return answer(error.body(), error.status)


def refusal_of(status: int, body: bytes) -> ApiStatusError:
    """Return what a kubelet's refusal is to our client: the Status it sent, or its text as the message."""
    text = body.decode("utf-8", "replace").strip()
    try:
        sent = msgspec.json.decode(body, type=_SentStatus)
        return ApiStatusError(status, sent.reason or _reason(status), sent.message)
    except msgspec.DecodeError:
        return ApiStatusError(status, _reason(status), text or f"the kubelet answered {status}")


def success(resource: Resource, name: str, uid: str) -> Object:
    """Return the Status of a write that has no object to show."""
    details = {"name": name, "group": resource.group, "kind": resource.plural, "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }


def include_object(request: web.Request) -> IncludeObject:
    """Return what a table's rows carry of their objects.

    Raises:  ApiStatusError 400.
    """
    wanted = request.query.get("includeObject") or "Metadata"
    if wanted not in _INCLUDE:
        raise bad_request(f"includeObject: {wanted[:40]!r} is not one of {', '.join(_INCLUDE)}")
    return cast("IncludeObject", wanted)


def show_object(
    request: web.Request, resource: Resource, entry: StoredObject, form: Form
) -> web.Response:
    """Return one object in the form asked for."""
    if form is Form.OBJECT:
        return answer(entry.raw)
    if form is Form.PARTIAL:
        return answer(partial(entry.parse()))
    return answer(
        table(
            resource,
            [entry.parse()],
            include_object=include_object(request),
            with_columns=True,
            list_meta={"resourceVersion": str(entry.revision)},
        )
    )


def show_list(request: web.Request, resource: Resource, page: Page, form: Form) -> web.Response:
    """Return a list in the form asked for."""
    meta: Object = {"resourceVersion": str(page.revision)}
    if page.continue_token:
        meta["continue"] = page.continue_token
    if page.remaining is not None:
        meta["remainingItemCount"] = page.remaining
    if form is Form.TABLE:
        objects = [entry.parse() for entry in page.entries]
        shown = include_object(request)
        return answer(
            table(resource, objects, include_object=shown, with_columns=True, list_meta=meta)
        )
    if form is Form.PARTIAL:
        items = [_encode(partial(entry.parse())) for entry in page.entries]
        return answer(_list("PartialObjectMetadataList", "meta.k8s.io/v1", meta, items))
    raws = [entry.raw for entry in page.entries]
    return answer(_list(resource.kind_of_list, resource.api_version, meta, raws))


def partial(obj: Object) -> Object:
    """Return an object's metadata as an object of its own."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }


def _list(kind: str, api_version: str, meta: Object, items: Sequence[bytes]) -> bytes:
    head: dict[str, Any] = {"kind": kind, "apiVersion": api_version, "metadata": meta}
    return b'%b,"items":[%b]}' % (_encode(head)[:-1], b",".join(items))
