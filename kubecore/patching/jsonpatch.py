"""JSON patch (RFC 6902) and its pointers (RFC 6901)."""

from __future__ import annotations

import copy
from typing import Any

from kubecore.patching.errors import PatchError

# The API server's limit: each operation may copy the document's parts.
MAX_OPERATIONS = 10_000
_NEEDS_VALUE = frozenset({"add", "replace", "test"})
_NEEDS_FROM = frozenset({"move", "copy"})


def apply_json_patch(current: Any, patch: Any) -> Any:
    """Return `current` with the operations applied in order; a failing one changes nothing.

    Raises:  PatchError: 400 for something that is no patch, 422 for an operation that does not fit.
    """
    if not isinstance(patch, list):
        raise PatchError(400, "the patch is not a list of operations")
    if len(patch) > MAX_OPERATIONS:
        text = (
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}"
        )
        raise PatchError(413, text)
    document = copy.deepcopy(current)
    for operation in patch:
        document = _step(document, _checked(operation))
    return document


def _checked(operation: Any) -> dict[str, Any]:
    if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
        raise PatchError(400, "each operation of the patch needs an op and a path")
    op = operation.get("op")
    if op not in _NEEDS_VALUE | _NEEDS_FROM | {"remove"}:
        raise PatchError(400, f"unexpected kind: {op}")
    if op in _NEEDS_VALUE and "value" not in operation:
        raise PatchError(400, f"{op} operation needs a value: {operation['path']}")
    if op in _NEEDS_FROM and not isinstance(operation.get("from"), str):
        raise PatchError(400, f"{op} operation needs a from: {operation['path']}")
    return operation


def _step(document: Any, operation: dict[str, Any]) -> Any:
    op, path = operation["op"], operation["path"]
    if op == "add":
        return _add(document, path, copy.deepcopy(operation["value"]))
    if op == "replace":
        # Not remove-then-add: in a list that would be the same, at the root it would not.
        _get(document, path)
        return _add(document, path, copy.deepcopy(operation["value"]), replace=True)
    if op == "remove":
        return _remove(document, path)
    if op == "test":
        if not _equal(_get(document, path), operation["value"]):
            raise PatchError(422, f"testing value {path} failed: test failed")
        return document
    source = operation["from"]
    value = copy.deepcopy(_get(document, source))
    if op == "move":
        if path.startswith(source + "/"):
            raise PatchError(422, f"unable to move {source} into itself at {path}")
        document = _remove(document, source)
    return _add(document, path, value)


def _equal(left: Any, right: Any) -> bool:
    # JSON's true is not 1, although Python's is.
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _tokens(path: str) -> list[str]:
    if path == "":
        return []
    if not path.startswith("/"):
        raise PatchError(422, f"path {path!r} does not start with '/'")
    return [part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")]


def _get(document: Any, path: str) -> Any:
    for token in _tokens(path):
        document = _child(document, token, path)
    return document


def _child(container: Any, token: str, path: str) -> Any:
    if isinstance(container, dict) and token in container:
        return container[token]
    if isinstance(container, list):
        return container[_index(token, len(container) - 1, path)]
    raise PatchError(422, f"doc is missing path: {path}: missing value")


def _index(token: str, last: int, path: str) -> int:
    if not token.isascii() or not token.isdigit() or int(token) > last:
        raise PatchError(422, f"unable to access invalid index: {token} at {path}: invalid index")
    return int(token)


def _add(document: Any, path: str, value: Any, *, replace: bool = False) -> Any:
    tokens = _tokens(path)
    if not tokens:
        return value
    parent = document
    for token in tokens[:-1]:
        parent = _child(parent, token, path)
    last = tokens[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif not isinstance(parent, list):
        raise PatchError(422, f"doc is missing path: {path}: missing value")
    elif replace:
        parent[_index(last, len(parent) - 1, path)] = value
    else:
        parent.insert(len(parent) if last == "-" else _index(last, len(parent), path), value)
    return document


def _remove(document: Any, path: str) -> Any:
    tokens = _tokens(path)
    if not tokens:
        raise PatchError(422, "the whole document cannot be removed")
    parent = document
    for token in tokens[:-1]:
        parent = _child(parent, token, path)
    _child(parent, tokens[-1], path)
    if isinstance(parent, dict):
        del parent[tokens[-1]]
    else:
        del parent[int(tokens[-1])]
    return document
