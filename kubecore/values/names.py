"""Rules for names, labels, annotations and the rest of metadata, with the API server's words."""

from __future__ import annotations

import re
from typing import Any

from kubecore.values.invalid import Cause, invalid, required, too_long

# Limits of Kubernetes: DNS (RFC 1123) sets 63 and 253; etcd request sizes set the annotations' total.
MAX_LABEL_CHARS = 63
MAX_SUBDOMAIN_CHARS = 253
MAX_ANNOTATIONS_BYTES = 256 * 1024

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"
_LABEL_RE = re.compile(_LABEL)
_SUBDOMAIN_RE = re.compile(_SUBDOMAIN)
_QUALIFIED_RE = re.compile(_QUALIFIED)
_VALUE_RE = re.compile(_VALUE)
_DNS1035_RE = re.compile("[a-z]([-a-z0-9]*[a-z0-9])?")

_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
    "end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_DNS1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
    "validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used "
    "for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)

# Names that become host names or parts of them are labels; RBAC names are path segments (they hold `:`).
_LABEL_NAMED = frozenset({"namespaces"})
_DNS1035_NAMED = frozenset({"services"})
_PATH_NAMED = frozenset({"roles", "rolebindings", "clusterroles", "clusterrolebindings"})


def subdomain_problem(name: str) -> str | None:
    """Return why `name` is no DNS-1123 subdomain, or None if it is one."""
    if len(name) > MAX_SUBDOMAIN_CHARS:
        return f"must be no more than {MAX_SUBDOMAIN_CHARS} characters"
    return None if _SUBDOMAIN_RE.fullmatch(name) else _SUBDOMAIN_TEXT


def label_problem(name: str) -> str | None:
    """Return why `name` is no DNS-1123 label, or None if it is one."""
    if len(name) > MAX_LABEL_CHARS:
        return f"must be no more than {MAX_LABEL_CHARS} characters"
    return None if _LABEL_RE.fullmatch(name) else _LABEL_TEXT


def object_name_problem(plural: str, name: str) -> str | None:
    """Return why an object of the resource `plural` cannot be called `name`, or None."""
    if plural in _PATH_NAMED:
        if name in (".", ".."):
            return f"may not be '{name}'"
        bad = next((c for c in "/%" if c in name), None)
        return f"may not contain '{bad}'" if bad else None
    if plural in _LABEL_NAMED:
        return label_problem(name)
    if plural in _DNS1035_NAMED:
        if len(name) > MAX_LABEL_CHARS:
            return f"must be no more than {MAX_LABEL_CHARS} characters"
        return None if _DNS1035_RE.fullmatch(name) else _DNS1035_TEXT
    return subdomain_problem(name)


def qualified_name_problem(key: str) -> str | None:
    """Return why `key` is no qualified name (`[prefix/]name`, as labels and finalizers use), or None."""
    prefix, slash, name = key.rpartition("/")
    if slash and not prefix:
        return "prefix part must be non-empty"
    if slash and (problem := subdomain_problem(prefix)):
        return f"prefix part {problem}"
    if not name:
        return "name part must be non-empty"
    if len(name) > MAX_LABEL_CHARS:
        return f"name part must be no more than {MAX_LABEL_CHARS} characters"
    return None if _QUALIFIED_RE.fullmatch(name) else _QUALIFIED_TEXT


def label_value_problem(value: str) -> str | None:
    """Return why `value` cannot be a label's value, or None."""
    if len(value) > MAX_LABEL_CHARS:
        return f"must be no more than {MAX_LABEL_CHARS} characters"
    return None if _VALUE_RE.fullmatch(value) else _VALUE_TEXT


def check_labels(labels: dict[str, str], field: str) -> list[Cause]:
    """Return what is wrong with a label map."""
    causes: list[Cause] = []
    for key, value in labels.items():
        if problem := qualified_name_problem(key):
            causes.append(invalid(field, key, problem))
        if problem := label_value_problem(value):
            causes.append(invalid(field, value, problem))
    return causes


def check_metadata(plural: str, metadata: dict[str, Any], *, namespaced: bool) -> list[Cause]:
    """Return what is wrong with an object's metadata. `generateName` must have become a name before."""
    causes: list[Cause] = []
    name = metadata.get("name", "")
    if not name:
        causes.append(required("metadata.name", "name or generateName is required"))
    elif problem := object_name_problem(plural, name):
        causes.append(invalid("metadata.name", name, problem))
    namespace = metadata.get("namespace", "")
    if namespace and not namespaced:
        causes.append(
            Cause(
                "metadata.namespace",
                "FieldValueForbidden",
                "Forbidden: not allowed on this type",
            )
        )
    elif namespace and (problem := label_problem(namespace)):
        causes.append(invalid("metadata.namespace", namespace, problem))
    causes += check_labels(metadata.get("labels") or {}, "metadata.labels")
    causes += _check_annotations(metadata.get("annotations") or {})
    for finalizer in metadata.get("finalizers") or []:
        if problem := qualified_name_problem(finalizer):
            causes.append(invalid("metadata.finalizers", finalizer, problem))
    return causes


def _check_annotations(annotations: dict[str, str]) -> list[Cause]:
    field = "metadata.annotations"
    causes = [
        invalid(field, key, problem)
        for key in annotations
        if (problem := qualified_name_problem(key.lower()))
    ]
    total = sum(len(key) + len(value) for key, value in annotations.items())
    if total > MAX_ANNOTATIONS_BYTES:
        causes.append(too_long(field, MAX_ANNOTATIONS_BYTES))
    return causes
