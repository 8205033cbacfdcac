"""What is known of one kind: its names, its paths, its columns. Values only; which kinds there are is elsewhere."""

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
    verbs: tuple[str, ...] = VERBS

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
