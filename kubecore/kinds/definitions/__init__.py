"""The schemas of the built-in kinds, read from the data file that `gen_kube_types` makes."""

from __future__ import annotations

import functools
import gzip
import json
from importlib import resources
from typing import Any

RELEASE = "1.32"


@functools.cache
def definitions() -> dict[str, Any]:
    """Return every definition by its OpenAPI name, such as `io.k8s.api.core.v1.Pod`; do not change it."""
    packed = resources.files(__name__).joinpath(f"kube-{RELEASE}.json.gz").read_bytes()
    loaded: dict[str, Any] = json.loads(gzip.decompress(packed))
    return loaded


def referenced(schema: dict[str, Any]) -> str | None:
    """Return the name of the definition that `schema` refers to, or None if it is no reference."""
    ref = schema.get("$ref")
    if ref is None and "allOf" in schema:
        ref = schema["allOf"][0].get("$ref")
    return ref.rpartition("/")[2] if isinstance(ref, str) else None
