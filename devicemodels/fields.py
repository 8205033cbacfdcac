"""Annotations of fields in `objects` and `push`: what a decoder enforces, and what CRD and reference page say.

The structs with these annotations are the one source: msgspec checks them, `devicemodels.crdschema` writes the
CRDs' schemas and `docs/devices-reference.md` from them.
"""

from __future__ import annotations

from msgspec import Meta

# What `kubectl explain` can be asked about must end somewhere: a Device is 1.5 MiB at most in the API.
MAX_PROPERTIES = 1024
# KubeEdge's own limit of property names on MQTT.
MAX_NAME_CHARS = 128
MAX_VALUE_CHARS = 64 << 10
MAX_NUMBER_CHARS = 64
NUMBER_PATTERN = r"^[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]{1,4})?$"

MILLISECONDS = Meta(ge=0)
FREE_FORM = Meta(extra_json_schema={"x-kubernetes-preserve-unknown-fields": True})
INT32 = Meta(extra_json_schema={"format": "int32"})


def doc(text: str) -> Meta:
    """Return the annotation that describes a field."""
    return Meta(description=text)


def map_list(*keys: str, most: int | None = None) -> Meta:
    """Return the annotation of a list whose items are told apart by `keys`, `most` of them at most."""
    words = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
    return Meta(max_length=most, extra_json_schema=words)


def rules(*checks: tuple[str, str]) -> Meta:
    """Return the annotation of CEL rules: (rule, message if it does not hold)."""
    listed = [{"rule": rule, "message": message} for rule, message in checks]
    return Meta(extra_json_schema={"x-kubernetes-validations": listed})


def _limit(name: str) -> tuple[str, str]:
    numeric = "has(self.type) && self.type in ['INT', 'FLOAT', 'DOUBLE']"
    given = f"has(self.{name}) && self.{name} != ''"
    rule = f"!({numeric} && {given}) || self.{name}.matches('{NUMBER_PATTERN}')"
    return rule, f"{name} must be a number for a property of type INT, FLOAT or DOUBLE"


def _in_order() -> tuple[str, str]:
    given = [
        f"has(self.{name}) && self.{name}.matches('{NUMBER_PATTERN}')"
        for name in ("minimum", "maximum")
    ]
    numeric = "has(self.type) && self.type in ['INT', 'FLOAT', 'DOUBLE']"
    rule = (
        f"!({numeric} && {given[0]} && {given[1]}) || double(self.minimum) <= double(self.maximum)"
    )
    return rule, "minimum must not be more than maximum"


PROPERTY_RULES = rules(_limit("minimum"), _limit("maximum"), _in_order())
