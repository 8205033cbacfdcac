"""Create, read, change, delete and watch objects of any kind: the rules of the Kubernetes API, without HTTP.

Everything between reading `latest` and handing the result to the store happens without an await, so a write
never loses a race inside this process.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from corekit.timestamps import rfc3339
from kubecore.errors import (
    ApiStatusError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    method_not_allowed,
    not_found,
)
from kubecore.kinds.crds import check_crd, crd_status
from kubecore.kinds.registry import Registry
from kubecore.kinds.resource import Resource
from kubecore.objects import admission, deletion, metadata
from kubecore.objects.admitters import NO_ADMITTERS, Admitters
from kubecore.objects.certificates import merge_approval, merge_status
from kubecore.objects.deletion import DeleteOptions
from kubecore.objects.pages import Page, Pages
from kubecore.objects.watching import Selects, Subscription, WatchHub
from kubecore.patching.patches import PatchError, apply_patch
from kubecore.schema.checking import FieldValidation, check
from kubecore.storage.errors import StoreWriteError
from kubecore.storage.store import Object, Store, StoredObject
from kubecore.values.invalid import Cause, InvalidObjectError, StrictDecodingError
from kubecore.values.selectors import SelectorError, parse_field_selector, parse_label_selector
from kubecore.values.signers import REQUESTS

CRDS = "customresourcedefinitions.apiextensions.k8s.io"
IMMORTAL_NAMESPACES = ("default", "kube-system", "kube-public")


@dataclass(frozen=True)
class WriteOptions:
    """What a client may ask of a write."""

    dry_run: bool = False
    field_validation: FieldValidation = "Warn"
    # Told what is there (None: nothing) and what would take its place; raises ApiStatusError to refuse it.
    guard: Callable[[Object | None, Object], None] | None = None


@dataclass(frozen=True)
class Written:
    """The object after a write; `removed` where the write was the end of it."""

    entry: StoredObject
    warnings: list[str] = field(default_factory=list)
    removed: bool = False


Warnings = list[str]  # `list` is a method below
DEFAULT_WRITE = WriteOptions()
DEFAULT_DELETE = DeleteOptions()


class Operations:
    """All requests on objects. Raises ApiStatusError for whatever a client can do wrong."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        hub: WatchHub,
        admitters: Admitters = NO_ADMITTERS,
    ) -> None:
        self.store, self.registry, self._hub = store, registry, hub
        self._admitters = admitters
        self._pages = Pages()

    # -- reading

    def get(self, resource: Resource, namespace: str, name: str) -> StoredObject:
        """Return the committed object."""
        entry = self.store.get(resource.storage_name, namespace, name)
        if entry is None:
            raise not_found(resource, name)
        return in_version(resource, entry)

    def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
    ) -> Page:
        """Return the selected objects of one namespace or all, or one page of them."""
        selects = selector(label_selector, field_selector)
        scope = f"{resource.storage_name}|{namespace}|{label_selector}|{field_selector}"
        token = self._pages.open(continue_token, scope) if continue_token else None
        if token and token.frozen:
            page = self._pages.next(token, limit)
        else:
            entries = self.store.entries(resource.storage_name, namespace)
            if token:
                entries = [e for e in entries if (e.namespace, e.name) > token.after]
            if selects:
                entries = [e for e in entries if selects(e.parse())]
            page = self._pages.first(entries, self.store.revision, limit, scope)
        entries = (
            [in_version(resource, e) for e in page.entries] if resource.custom else page.entries
        )
        remaining = None if selects else page.remaining
        return Page(entries, page.revision, page.continue_token, remaining)

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        after: int,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Subscription:
        """Return a subscription to every change after the revision `after`."""
        selects = selector(label_selector, field_selector)
        return self._hub.subscribe(resource.storage_name, namespace, after=after, selects=selects)

    # -- writing

    async def create(
        self,
        resource: Resource,
        namespace: str,
        obj: Object,
        options: WriteOptions = DEFAULT_WRITE,
    ) -> Written:
        """Store a new object."""
        if isinstance(obj, dict):
            await self._admitters.wait(resource, namespace, obj)
        obj = metadata.stamp_new(resource, namespace, obj)
        admission.fill_new(resource, obj)
        checked, warnings = self._check(resource, obj, options)
        if options.guard:
            options.guard(None, checked)
        name = checked["metadata"]["name"]
        if resource.namespaced:
            self._require_namespace(resource, namespace, name)
        if self.store.latest(resource.storage_name, checked["metadata"].get("namespace", ""), name):
            raise already_exists(resource, name)
        self._admitters.admit(resource, checked, None)
        if options.dry_run:
            return Written(StoredObject.encode(checked, self.store.revision), warnings)
        self._install(resource, checked)
        return Written(await self._commit(self.store.put, resource, checked), warnings)

    async def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        obj: Object,
        options: WriteOptions = DEFAULT_WRITE,
        *,
        subresource: str = "",
    ) -> Written:
        """Replace an object, its status (subresource "status") or a namespace's finalizers ("finalize")."""
        current = self._latest(resource, namespace, name)
        if resource.custom and not metadata.metadata_of(obj).get("resourceVersion"):
            problem = "Invalid value: 0x0: must be specified for an update"
            cause = Cause("metadata.resourceVersion", "FieldValueInvalid", problem)
            raise invalid(resource, InvalidObjectError(resource.group_kind, name, [cause]))
        return await self._replace(resource, current, obj, options, subresource)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Any,
        options: WriteOptions = DEFAULT_WRITE,
        *,
        content_type: str,
        subresource: str = "",
    ) -> Written:
        """Change an object by a JSON, merge or strategic merge patch."""
        current = self._latest(resource, namespace, name)
        try:
            patched = apply_patch(resource, content_type, current, patch)
        except PatchError as exc:
            reason = {400: "BadRequest", 415: "UnsupportedMediaType"}.get(exc.status, "Invalid")
            raise ApiStatusError(exc.status, reason, exc.message) from exc
        return await self._replace(resource, current, patched, options, subresource)

    async def bind(self, namespace: str, name: str, node: str) -> None:
        """Assign a pod to a node, once."""
        pods = self.registry.find("", "v1", "pods")
        assert pods is not None
        pod = self._latest(pods, namespace, name)
        if "deletionTimestamp" in pod["metadata"]:
            raise conflict(pods, name, f"pod {name} is being deleted, cannot be assigned to a host")
        if assigned := pod["spec"].get("nodeName"):
            raise conflict(pods, name, f'pod {name} is already assigned to node "{assigned}"')
        pod["spec"]["nodeName"] = node
        scheduled = {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": rfc3339(time.time()),
        }
        status = pod.setdefault("status", {})
        others = [c for c in status.get("conditions") or [] if c.get("type") != "PodScheduled"]
        status["conditions"] = [*others, scheduled]
        await self._commit(self.store.put, pods, pod)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        options: DeleteOptions = DEFAULT_DELETE,
    ) -> Written:
        """Remove an object, or mark it where finalizers or a pod's grace period hold it."""
        obj = self._latest(resource, namespace, name)
        if resource.storage_name == "namespaces" and name in IMMORTAL_NAMESPACES:
            raise forbidden(resource, name, "this namespace may not be deleted")
        metadata.require_same(
            resource, obj, uid=options.uid, resource_version=options.resource_version
        )
        changed = deletion.mark(resource, obj, options, time.time())
        removable = deletion.is_removable(resource, obj)
        if options.dry_run or not (changed or removable):
            return Written(StoredObject.encode(obj, int(obj["metadata"]["resourceVersion"])))
        return await self._store_or_remove(resource, obj)

    # -- steps

    def _latest(self, resource: Resource, namespace: str, name: str) -> Object:
        entry = self.store.latest(resource.storage_name, namespace, name)
        if entry is None:
            raise not_found(resource, name)
        return in_version(resource, entry).parse()

    async def _replace(
        self,
        resource: Resource,
        current: Object,
        obj: Object,
        options: WriteOptions,
        subresource: str,
    ) -> Written:
        stored = current["metadata"]
        name, namespace = stored["name"], stored.get("namespace", "")
        metadata.check_target(resource, namespace, name, obj, current)
        merged = self._merge(resource, current, obj, subresource)
        checked, warnings = self._check(resource, merged, options, current, subresource)
        if options.guard:
            options.guard(current, checked)
        if not subresource:
            self._admitters.admit(resource, checked, current)
        if "generation" in stored and metadata.spec_changed(resource, checked, current):
            checked["metadata"]["generation"] = stored["generation"] + 1
        removable = deletion.is_removable(resource, checked)
        if options.dry_run or (checked == current and not removable):
            return Written(StoredObject.encode(checked, int(stored["resourceVersion"])), warnings)
        self._install(resource, checked)
        written = await self._store_or_remove(resource, checked)
        return Written(written.entry, warnings, written.removed)

    def _merge(self, resource: Resource, current: Object, obj: Object, subresource: str) -> Object:
        """Return what the update makes of `current`: each path of the API changes its own part only."""
        if subresource == "ephemeralcontainers":
            debugged = _spec_of(obj).get("ephemeralContainers")
            merged = {**current, "spec": {**current["spec"], "ephemeralContainers": debugged}}
        elif resource.storage_name == REQUESTS and subresource:
            merge = merge_approval if subresource == "approval" else merge_status
            merged = merge(current, obj, time.time())
        elif subresource in ("status", "finalize"):
            if subresource == "status" and not resource.has_status:
                raise method_not_allowed()
            part = "status" if subresource == "status" else "spec"
            merged = {**current, part: obj.get(part)}
        else:
            try:
                merged = {**obj, "metadata": metadata.carry_over(resource, obj, current)}
            except InvalidObjectError as exc:
                raise invalid(resource, exc) from exc
            if resource.has_status:
                merged["status"] = current.get("status")
            admission.fill_update(resource, merged, current)
        return {key: value for key, value in merged.items() if value is not None}

    def _check(
        self,
        resource: Resource,
        obj: Object,
        options: WriteOptions,
        old: Object | None = None,
        subresource: str = "",
    ) -> tuple[Object, Warnings]:
        validation = options.field_validation
        try:
            checked = check(
                resource, obj, field_validation=validation, old=old, subresource=subresource
            )
        except InvalidObjectError as exc:
            raise invalid(resource, exc) from exc
        except StrictDecodingError as exc:
            raise bad_request(exc.message) from exc
        if resource.storage_name == CRDS:
            self._check_crd(resource, checked.obj)
            checked.obj["status"] = crd_status(checked.obj, self.registry.crds(), time.time())
        return checked.obj, checked.warnings

    def _require_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        namespaces = self.registry.find("", "v1", "namespaces")
        assert namespaces is not None
        entry = self.store.latest("namespaces", "", namespace)
        if entry is None:
            raise not_found(namespaces, namespace)
        if "deletionTimestamp" in entry.parse()["metadata"]:
            problem = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(resource, name, problem)

    def _check_crd(self, resource: Resource, crd: Object) -> None:
        try:
            check_crd(crd)
        except InvalidObjectError as exc:
            raise invalid(resource, exc) from exc

    def _install(self, resource: Resource, obj: Object) -> None:
        """Serve what a CRD defines; refuse one whose names are taken."""
        if resource.storage_name == CRDS:
            try:
                self.registry.install_crd(obj)
            except InvalidObjectError as exc:
                raise invalid(resource, exc) from exc

    async def _store_or_remove(self, resource: Resource, obj: Object) -> Written:
        if not deletion.is_removable(resource, obj):
            return Written(await self._commit(self.store.put, resource, obj))
        if resource.storage_name == CRDS:
            self.registry.remove_crd(obj["metadata"]["name"])
        return Written(await self._commit(self.store.remove, resource, obj), removed=True)

    async def _commit(
        self,
        write: Callable[[str, Object], Awaitable[StoredObject]],
        resource: Resource,
        obj: Object,
    ) -> StoredObject:
        try:
            return await write(resource.storage_name, obj)
        except StoreWriteError as exc:
            raise ApiStatusError(500, "InternalError", f"not stored: {exc}") from exc


def _spec_of(obj: Object) -> Object:
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        raise bad_request("spec is not a JSON object")
    return spec


def selector(label_selector: str, field_selector: str) -> Selects | None:
    """Return one predicate for both selectors; None if everything is selected.

    Raises:  ApiStatusError 400: one of them does not parse.
    """
    try:
        by_label = parse_label_selector(label_selector) if label_selector else None
        by_field = parse_field_selector(field_selector) if field_selector else None
    except SelectorError as exc:
        raise bad_request(str(exc)) from exc
    if by_label is None:
        return by_field
    labels_pass = by_label

    def selects(obj: Object) -> bool:
        if not labels_pass(obj["metadata"].get("labels") or {}):
            return False
        return by_field is None or by_field(obj)

    return selects


def in_version(resource: Resource, entry: StoredObject) -> StoredObject:
    """Return `entry` under the apiVersion of `resource`; only the CRDs of a group have several.

    The conversion is the strategy "None": the fields stay, the apiVersion changes.
    """
    if not resource.custom or entry.raw.startswith(
        b'{"apiVersion":"%b"' % resource.api_version.encode()
    ):
        return entry
    return StoredObject.encode(
        {**entry.parse(), "apiVersion": resource.api_version}, entry.revision
    )
