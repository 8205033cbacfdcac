"""References to values that lie elsewhere: in a ConfigMap or Secret, in the pod, in its resources."""

from __future__ import annotations

from edgecore.edged.spec.parts import Part, Quantity


class KeyRef(Part, frozen=True):
    """A key of a ConfigMap or Secret."""

    key: str
    name: str = ""
    optional: bool = False


class ObjectRef(Part, frozen=True):
    """A whole ConfigMap or Secret."""

    name: str = ""
    optional: bool = False


class FieldRef(Part, frozen=True):
    """A field of the pod itself."""

    field_path: str
    api_version: str = "v1"


class ResourceFieldRef(Part, frozen=True):
    """A request or limit of a container."""

    resource: str
    container_name: str = ""
    divisor: Quantity = "0"
