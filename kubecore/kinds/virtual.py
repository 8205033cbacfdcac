"""Kinds that are answered but never stored: they are in discovery, and nowhere else among the kinds."""

from __future__ import annotations

from kubecore.kinds.resource import Resource


def _asked(group: str, plural: str, kind: str, *, namespaced: bool = False) -> Resource:
    return Resource(
        group=group,
        version="v1",
        plural=plural,
        kind=kind,
        singular=kind.lower(),
        namespaced=namespaced,
        verbs=("create",),
    )


def _measured(plural: str, kind: str, *, namespaced: bool) -> Resource:
    return Resource(
        group="metrics.k8s.io",
        version="v1beta1",
        plural=plural,
        kind=kind,
        singular="",
        namespaced=namespaced,
        verbs=("get", "list"),
    )


_AUTHENTICATION, _AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"
VIRTUAL: tuple[Resource, ...] = (
    _asked(_AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview"),
    _asked(_AUTHENTICATION, "tokenreviews", "TokenReview"),
    _asked(
        _AUTHORIZATION, "localsubjectaccessreviews", "LocalSubjectAccessReview", namespaced=True
    ),
    _asked(_AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _asked(_AUTHORIZATION, "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    _asked(_AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview"),
    _measured("nodes", "NodeMetrics", namespaced=False),
    _measured("pods", "PodMetrics", namespaced=True),
)
