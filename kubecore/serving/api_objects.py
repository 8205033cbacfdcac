"""Requests on objects: from an HTTP request to an operation and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiohttp import web

from kubecore.access import nodeauthz
from kubecore.access.accounts import Accounts
from kubecore.access.authn import User
from kubecore.access.authz import Authorizer, denied
from kubecore.access.reviews import GROUPS, Reviews
from kubecore.access.target import Target
from kubecore.errors import (
    ApiStatusError,
    bad_request,
    gone,
    method_not_allowed,
    unknown_path,
)
from kubecore.kinds.registry import Registry
from kubecore.kinds.resource import Resource
from kubecore.objects.deletion import DeleteOptions
from kubecore.objects.operations import Operations, WriteOptions
from kubecore.objects.pages import Page
from kubecore.serving.answers import answer, show_list, show_object, success
from kubecore.serving.api_certificates import deciding_guard, with_requester
from kubecore.serving.api_metrics import GROUP as METRICS_GROUP
from kubecore.serving.api_metrics import MetricsApi
from kubecore.serving.api_streams import STREAMS, StreamApi
from kubecore.serving.api_watch import serve_watch
from kubecore.serving.requests import body_of, form_of, number
from kubecore.storage.store import Object
from kubecore.streams.kubelet import KubeletClient
from kubecore.streams.scraper import Scraper
from kubecore.values.signers import REQUESTS

# The API server of Kubernetes returns the last state of these, and a Status of the rest; clients decode by it.
_RETURNED_ON_DELETE = frozenset(
    {
        "pods",
        "services",
        "serviceaccounts",
        "podtemplates",
        "resourcequotas",
        "persistentvolumes",
        "persistentvolumeclaims",
    }
)
_OWN_PARTS = frozenset({"", "status"})
# Further parts of an object that are read and written like its status.
_FURTHER_PARTS = frozenset({"pods/ephemeralcontainers", "certificatesigningrequests/approval"})


class ObjectApi:
    """Serves every path below `/api/v1/` and `/apis/GROUP/VERSION/`."""

    def __init__(
        self,
        operations: Operations,
        authorizer: Authorizer,
        kubelets: KubeletClient,
        accounts: Accounts,
        scraper: Scraper,
    ) -> None:
        self._operations, self._accounts = operations, accounts
        self._authorizer, self._reviews = authorizer, Reviews(authorizer, accounts)
        self._registry: Registry = operations.registry
        self._metrics = MetricsApi(operations.store, scraper)
        self._streams = StreamApi(operations.store, operations.registry, kubelets)

    async def serve(self, request: web.Request, user: User, target: Target) -> web.StreamResponse:
        """Answer a request that `user` is allowed to make."""
        if request.method == "POST" and target.group in GROUPS:
            return answer(self._reviews.answer(user, target, await body_of(request)), 201)
        if target.group == METRICS_GROUP:
            return await self._metrics.serve(request, target)
        resource = self._registry.find(target.group, target.version, target.plural)
        if resource is None or not _fits(resource, target):
            raise unknown_path()
        if target.subresource in STREAMS:
            return await self._streams.serve(request, target)
        part = "" if target.resource in _FURTHER_PARTS else target.subresource
        if part not in _OWN_PARTS:
            return await self._subresource(request, resource, target, user)
        if target.verb in ("get", "list", "watch"):
            return await self._read(request, resource, target)
        return await self._write(request, resource, target, user)

    async def _read(
        self, request: web.Request, resource: Resource, target: Target
    ) -> web.StreamResponse:
        form = form_of(request)
        if target.verb == "watch":
            return await serve_watch(request, self._operations, resource, target, form)
        if target.verb == "list":
            return show_list(request, resource, self._page(request, resource, target), form)
        entry = self._operations.get(resource, _namespace(resource, target), target.name)
        return show_object(request, resource, entry, form)

    async def _write(
        self, request: web.Request, resource: Resource, target: Target, user: User
    ) -> web.Response:
        match target.verb:
            case "create" if not target.name:
                return await self._create(request, resource, target, user)
            case "update" | "patch" if target.name:
                return await self._change(request, resource, target, user)
            case "delete" if not target.subresource:
                return await self._delete(request, resource, target)
            case "deletecollection":
                return await self._delete_all(request, resource, target)
        raise method_not_allowed()

    def _page(self, request: web.Request, resource: Resource, target: Target) -> Page:
        query, revision = request.query, self._operations.store.revision
        wanted = number(request, "resourceVersion")
        if (
            query.get("resourceVersionMatch") == "Exact"
            and wanted != revision
            and "continue" not in query
        ):
            raise gone(
                f"The resourceVersion for the provided list is too old: {wanted} ({revision})"
            )
        if wanted > revision:
            problem = f"Too large resource version: {wanted}, current: {revision}"
            raise ApiStatusError(504, "Timeout", problem, details={"retryAfterSeconds": 1})
        return self._operations.list(
            resource,
            _namespace(resource, target),
            label_selector=query.get("labelSelector", ""),
            field_selector=query.get("fieldSelector", ""),
            limit=number(request, "limit"),
            continue_token=query.get("continue", ""),
        )

    async def _create(
        self, request: web.Request, resource: Resource, target: Target, user: User
    ) -> web.Response:
        if resource.namespaced and not target.namespace:
            raise method_not_allowed()
        body, options = await body_of(request), _write_options(request, user, target)
        obj = _object(body)
        if resource.storage_name == REQUESTS:
            obj = with_requester(obj, user)
        written = await self._operations.create(
            resource, _namespace(resource, target), obj, options
        )
        return answer(written.entry.raw, 201, written.warnings)

    async def _change(
        self, request: web.Request, resource: Resource, target: Target, user: User
    ) -> web.Response:
        body, options = await body_of(request), _write_options(request, user, target)
        if resource.storage_name == REQUESTS and target.subresource:
            guard = deciding_guard(resource, target.subresource, user, self._authorizer)
            options = replace(options, guard=guard)
        place = (resource, _namespace(resource, target), target.name)
        if target.verb == "update":
            written = await self._operations.update(
                *place, _object(body), options, subresource=target.subresource
            )
        else:
            written = await self._operations.patch(
                *place,
                body,
                options,
                content_type=request.content_type,
                subresource=target.subresource,
            )
        return answer(written.entry.raw, 200, written.warnings)

    async def _delete(
        self, request: web.Request, resource: Resource, target: Target
    ) -> web.Response:
        options = delete_options(request, await body_of(request))
        place = (_namespace(resource, target), target.name)
        written = await self._operations.delete(resource, *place, options)
        if written.removed and resource.storage_name not in _RETURNED_ON_DELETE:
            uid = written.entry.parse()["metadata"]["uid"]
            return answer(success(resource, target.name, uid))
        return answer(written.entry.raw)

    async def _delete_all(
        self, request: web.Request, resource: Resource, target: Target
    ) -> web.Response:
        options = delete_options(request, await body_of(request))
        page = self._page(request, resource, target)
        for entry in page.entries:
            try:
                await self._operations.delete(resource, entry.namespace, entry.name, options)
            except ApiStatusError as exc:
                if exc.status != 404:  # someone else deleted it meanwhile
                    raise
        return show_list(request, resource, page, form_of(request))

    async def _subresource(
        self, request: web.Request, resource: Resource, target: Target, user: User
    ) -> web.Response:
        place = (resource.storage_name, target.subresource, target.verb)
        match place:
            case ("pods", "binding", "create"):
                body = _object(await body_of(request))
                node = _field(body, "target", "name")
                if not isinstance(node, str) or not node:
                    raise bad_request("binding: target.name: the name of a node is required")
                await self._operations.bind(target.namespace, target.name, node)
                return answer(success(resource, target.name, ""), 201)
            case ("pods", "eviction", "create"):
                body = _object(await body_of(request))
                options = delete_options(request, body.get("deleteOptions"))
                await self._operations.delete(resource, target.namespace, target.name, options)
                return answer(success(resource, target.name, ""), 201)
            case ("serviceaccounts", "token", "create"):
                return await self._token(request, target, user)
            case ("namespaces", "finalize", "update"):
                return await self._change(request, resource, target, user)
        raise unknown_path()

    async def _token(self, request: web.Request, target: Target, user: User) -> web.Response:
        body = await body_of(request)
        node = nodeauthz.node_of(user)
        store = self._operations.store
        if node and (problem := nodeauthz.token_problem(store, node, target, body)):
            raise _forbidden(user, target, problem)
        return answer(self._accounts.issue(target.namespace, target.name, body), 201)


def delete_options(request: web.Request, body: Any) -> DeleteOptions:
    """Return the options of a delete, from its body or else its query.

    Raises:  ApiStatusError 400.
    """
    options = _object({} if body is None else body)
    preconditions = options.get("preconditions") or {}
    if not isinstance(preconditions, dict):
        raise bad_request("DeleteOptions: preconditions is not a JSON object")
    grace_s = options.get("gracePeriodSeconds")
    if grace_s is None and "gracePeriodSeconds" in request.query:
        grace_s = number(request, "gracePeriodSeconds")
    # A bool is an int in Python, not in JSON.
    if grace_s is not None and (not isinstance(grace_s, int) or isinstance(grace_s, bool)):
        raise bad_request(f"DeleteOptions: gracePeriodSeconds: {grace_s!r} is not a whole number")
    propagation = options.get("propagationPolicy") or request.query.get("propagationPolicy", "")
    if propagation not in ("", "Background", "Foreground", "Orphan"):
        raise bad_request(f"DeleteOptions: propagationPolicy: {propagation!r} is not known")
    return DeleteOptions(
        grace_s,
        str(preconditions.get("uid") or ""),
        str(preconditions.get("resourceVersion") or ""),
        propagation,
        _is_dry(request) or bool(options.get("dryRun")),
    )


def _write_options(request: web.Request, user: User, target: Target) -> WriteOptions:
    validation = request.query.get("fieldValidation") or "Warn"
    if validation not in ("Strict", "Warn", "Ignore"):
        raise bad_request(f"fieldValidation: {validation[:40]!r} is not Strict, Warn or Ignore")
    guard = _node_guard(user, target) if nodeauthz.node_of(user) else None
    return WriteOptions(_is_dry(request), validation, guard)  # type: ignore[arg-type]  # one of the three


def _node_guard(user: User, target: Target) -> Callable[[Object | None, Object], None]:
    """Return the check of what a node writes: its rights name objects, this one looks into them."""
    node = nodeauthz.node_of(user)

    def guard(before: Object | None, after: Object) -> None:
        if problem := nodeauthz.write_problem(node, target, before, after):
            raise _forbidden(user, target, problem)

    return guard


def _forbidden(user: User, target: Target, problem: str) -> ApiStatusError:
    return ApiStatusError(403, "Forbidden", f"{denied(user, target).message}: {problem}")


def _is_dry(request: web.Request) -> bool:
    wanted = request.query.getall("dryRun", [])
    if wanted not in ([], [""], ["All"]):
        raise bad_request(f"dryRun: {wanted[0][:40]!r} is not All")
    return wanted == ["All"]


def _fits(resource: Resource, target: Target) -> bool:
    """Tell whether the path has a namespace only where the kind has, and always where it names one object."""
    if resource.storage_name == "namespaces":
        return True
    return bool(target.namespace) == resource.namespaced or (
        resource.namespaced and not target.name
    )


def _namespace(resource: Resource, target: Target) -> str:
    return target.namespace if resource.namespaced else ""


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise bad_request("the body is not a JSON object")
    return body


def _field(body: dict[str, Any], *path: str) -> Any:
    value: Any = body
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
