"""What kinds there are: the built-in ones and those that CustomResourceDefinitions add."""

from __future__ import annotations

from typing import Any

from kubecore.kinds.builtin import BUILTIN
from kubecore.kinds.crds import check_crd, names_conflict, resources_of
from kubecore.kinds.resource import Resource
from kubecore.values.invalid import Cause, InvalidObjectError


class Registry:
    """All kinds served. `revision` changes whenever a CRD does, so that documents made of it can be kept."""

    def __init__(self) -> None:
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
