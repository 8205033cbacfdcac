"""`meta.k8s.io/v1` Tables: what `kubectl get` prints, made by the server."""

from __future__ import annotations

import json
import time
from typing import Any, Literal

from kubecore.kinds.resource import Column, Resource
from kubecore.printing.durations import age
from kubecore.printing.printers import PRINTERS, Printer
from kubecore.values.jsonpath import compile_path

IncludeObject = Literal["Metadata", "Object", "None"]
_NAME = Column("Name", "string", format="name")
_AGE = Column("Age", "string")


def table(
    resource: Resource,
    objects: list[dict[str, Any]],
    *,
    include_object: IncludeObject = "Metadata",
    with_columns: bool = True,
    list_meta: dict[str, Any],
    now_s: float | None = None,
) -> dict[str, Any]:
    """Return the objects as a Table.

    Shapes:  with_columns: false leaves the definitions out, as in all events of a watch but the first.
             list_meta: the list's metadata (resourceVersion, continue), or {} for one object.
    """
    now_s = time.time() if now_s is None else now_s
    printer = printer_of(resource)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta,
        "columnDefinitions": [_definition(c) for c in printer.columns] if with_columns else [],
        "rows": [
            {"cells": printer.cells(obj, now_s), "object": _shown_object(obj, include_object)}
            for obj in objects
        ],
    }


def printer_of(resource: Resource) -> Printer:
    """Return what prints objects of `resource`: its own columns, a CRD's, or name and age."""
    if resource.custom:
        columns = resource.columns
        # A CRD's column named Name would stand twice; kubectl takes the first as the name.
        return Printer((_NAME, *columns), lambda obj, now_s: _custom_cells(columns, obj, now_s))
    return PRINTERS.get(resource.group_resource, _PLAIN)


def _plain_cells(obj: dict[str, Any], now_s: float) -> list[Any]:
    meta = obj["metadata"]
    return [meta.get("name", ""), age(meta.get("creationTimestamp"), now_s)]


_PLAIN = Printer((_NAME, _AGE), _plain_cells)


def _custom_cells(columns: tuple[Column, ...], obj: dict[str, Any], now_s: float) -> list[Any]:
    return [obj["metadata"].get("name", ""), *(_custom_cell(c, obj, now_s) for c in columns)]


def _custom_cell(column: Column, obj: dict[str, Any], now_s: float) -> Any:
    found = compile_path(column.json_path)(obj)
    return None if not found else _cell(column.type, found[0], now_s)


def _cell(kind: str, value: Any, now_s: float) -> Any:
    """Return one value as a cell of the column's type; None (an empty cell) if it is of another."""
    match kind:
        case "string":
            return value if isinstance(value, str) else _text(value)
        case "date":
            return age(value, now_s)
        case "boolean":
            return value if isinstance(value, bool) else None
        case "integer" | "number" if isinstance(value, (int, float)):
            if isinstance(value, bool):
                return None
            return int(value) if kind == "integer" else value
    return None


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _definition(column: Column) -> dict[str, Any]:
    kind = "string" if column.type == "date" and not column.json_path else column.type
    return {
        "name": column.name,
        "type": kind,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }


def _shown_object(obj: dict[str, Any], include: IncludeObject) -> dict[str, Any] | None:
    if include == "None":
        return None
    if include == "Object":
        return obj
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }
