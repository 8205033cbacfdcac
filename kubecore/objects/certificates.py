"""What each path of a certificate signing request may change: who asked, the decision, the certificate.

Source:  Kubernetes' registry/certificates and the admission plugin CertificateSubjectRestriction.
"""

from __future__ import annotations

import base64
from typing import Any

from corekit.timestamps import rfc3339
from kubecore.errors import forbidden
from kubecore.kinds.resource import Resource
from kubecore.values.signers import CLIENT

Object = dict[str, Any]
_DECISIONS = ("Approved", "Denied")
_MASTERS = "system:masters"


def merge_approval(current: Object, sent: Object, now_s: float) -> Object:
    """Return `current` with the conditions of `sent`, stamped."""
    conditions = _conditions(sent)
    return _with_status(current, {"conditions": _stamped(conditions, current, now_s)})


def merge_status(current: Object, sent: Object, now_s: float) -> Object:
    """Return `current` with the certificate and conditions of `sent`; decisions are made by approval only."""
    kept = [c for c in _conditions(current) if c.get("type") in _DECISIONS]
    others = [c for c in _conditions(sent) if not _is_decision(c)]
    status: Object = {"conditions": _stamped([*kept, *others], current, now_s)}
    found = sent.get("status")
    if isinstance(found, dict) and found.get("certificate") is not None:
        status["certificate"] = found["certificate"]
    return _with_status(current, status)


def _conditions(request: Object) -> list[Any]:
    status = request.get("status")
    found = status.get("conditions") if isinstance(status, dict) else None
    # What is no list of objects is for the schema to refuse.
    return list(found) if isinstance(found, list) else []


def _is_decision(condition: Any) -> bool:
    return isinstance(condition, dict) and condition.get("type") in _DECISIONS


def _with_status(current: Object, status: Object) -> Object:
    merged = {**(current.get("status") or {}), **status}
    return {**current, "status": {k: v for k, v in merged.items() if v not in (None, [])}}


def _stamped(conditions: list[Any], current: Object, now_s: float) -> list[Any]:
    stamp = rfc3339(now_s)
    known = {c.get("type"): c for c in _conditions(current)}
    stamped = []
    for condition in conditions:
        if not isinstance(condition, dict) or condition == known.get(str(condition.get("type"))):
            stamped.append(condition)
            continue
        times = {
            key: condition.get(key) or stamp for key in ("lastUpdateTime", "lastTransitionTime")
        }
        stamped.append({**condition, **times})
    return stamped


class SubjectRestriction:
    """Refuses client certificates of the group that nothing is denied."""

    def admit(self, resource: Resource, obj: Object, old: Object | None) -> None:
        """Look at a new request. Raises:  ApiStatusError 403."""
        if old is not None or obj["spec"].get("signerName") != CLIENT:
            return
        from kubecore.values.signing_requests import CertificateRequest  # late: see there

        wanted = CertificateRequest(base64.b64decode(obj["spec"]["request"]))
        if _MASTERS in wanted.organizations:
            problem = f"use of {CLIENT} signer with {_MASTERS} group is not allowed"
            raise forbidden(resource, obj["metadata"]["name"], problem)
