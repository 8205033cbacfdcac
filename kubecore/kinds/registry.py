"""What kinds there are: the built-in ones and those that CustomResourceDefinitions add."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Column:
    """One column of a kind's table; `json_path` says where its cell comes from."""

    name: str
    type: str = "string"
    json_path: str = ""
    description: str = ""
    priority: int = 0  # 0 is always shown, 1 with `-o wide`
    format: str = ""


@dataclass(frozen=True)
class Subresource:
    """A path below an object, such as `pods/NAME/binding`; it may take a kind of its own."""

    name: str
    verbs: tuple[str, ...]
    kind: str = ""  # empty: the object's own kind
    group_version: str = ""  # of that kind, if it is not the object's


@dataclass(frozen=True)
class Resource:
    """One kind in one version, as a path of the API serves it."""

    group: str
    version: str
    plural: str
    kind: str
    singular: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    has_status: bool = False
    subresources: tuple[Subresource, ...] = ()
    # Exactly one of the two: the name of a built-in definition, or a CRD's structural schema.
    definition: str = ""
    schema: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    columns: tuple[Column, ...] = field(default=(), compare=False, repr=False)
    list_kind: str = ""
    custom: bool = False

    @property
    def api_version(self) -> str:
        """Return `v1`, or `group/version`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """Return `pods` or `leases.coordination.k8s.io`, as messages name the resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def storage_name(self) -> str:
        """Return the key of this resource in the store; the versions of one resource share it."""
        return self.group_resource

    @property
    def group_kind(self) -> str:
        """Return `Pod` or `Lease.coordination.k8s.io`, as messages name the kind."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def kind_of_list(self) -> str:
        """Return the kind of a list of these."""
        return self.list_kind or f"{self.kind}List"


class Registry:
    """All kinds served. `revision` changes whenever a CRD does, so that documents made of it can be kept."""

    def __init__(self) -> None:
        from kubecore.builtin import BUILTIN  # late: builtin needs Resource

        self.revision = 1
        self._builtin = {(r.group, r.version, r.plural): r for r in BUILTIN}
        self._by_crd: dict[str, tuple[dict[str, Any], list[Resource]]] = {}
        self._by_path = dict(self._builtin)
        # Where openapi keeps what it made of this registry; nobody else touches it.
        self.openapi: object = None

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return the resource behind a path, or None."""
        return self._by_path.get((group, version, plural))

    def resources(self) -> list[Resource]:
        """Return every resource, the built-in ones first."""
        return list(self._by_path.values())

    def kind(self, api_version: str, kind: str) -> Resource | None:
        """Return the resource that holds objects of this apiVersion and kind, or None."""
        for resource in self._by_path.values():
            if resource.kind == kind and resource.api_version == api_version:
                return resource
        return None

    def install_crd(self, crd: dict[str, Any]) -> None:
        """Serve the versions of `crd`, in place of what an older state of it served.

        Raises:  InvalidObjectError: the definition is wrong, or its names are taken.
        """
        from kubecore.crds import check_crd, names_conflict, resources_of
        from kubecore.invalid import Cause, InvalidObjectError

        check_crd(crd)
        name = crd["metadata"]["name"]
        if problem := names_conflict(crd, self.crds()):
            kind = "CustomResourceDefinition.apiextensions.k8s.io"
            raise InvalidObjectError(
                kind, name, [Cause("spec.names", "FieldValueInvalid", problem)]
            )
        self._by_crd[name] = (crd, resources_of(crd))
        self._rebuild()

    def remove_crd(self, name: str) -> None:
        """Stop serving what the CRD `name` added; nothing happens if it added nothing."""
        if self._by_crd.pop(name, None) is not None:
            self._rebuild()

    def crds(self) -> list[dict[str, Any]]:
        """Return the installed definitions."""
        return [crd for crd, _ in self._by_crd.values()]

    def _rebuild(self) -> None:
        self._by_path = dict(self._builtin)
        for _, resources in self._by_crd.values():
            self._by_path.update({(r.group, r.version, r.plural): r for r in resources})
        self.revision += 1
