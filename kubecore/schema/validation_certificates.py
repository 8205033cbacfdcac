"""Rules of certificate signing requests beyond types, with the API server's words."""

from __future__ import annotations

import base64
from typing import Any

from kubecore.values.invalid import (
    Cause,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
)
from kubecore.values.names import subdomain_problem
from kubecore.values.signers import USAGES

Object = dict[str, Any]
# Conditions that decide, and that nobody takes back.
DECIDED = ("Approved", "Denied", "Failed")
_MIN_S = 600
_LEGACY = "kubernetes.io/legacy-unknown"


def check_new_request(request: Object) -> list[Cause]:
    """Return what is wrong with a new request beyond `check_request`: whether it is one, and proves its key."""
    from kubecore.values.signing_requests import CertificateRequest, RequestError  # late: see there

    text = str(request["spec"].get("request") or "")
    try:
        CertificateRequest(base64.b64decode(text))
    except RequestError as exc:
        return [invalid("spec.request", text, str(exc))] if text else []
    return []


def check_request(request: Object) -> list[Cause]:
    """Return what is wrong with a decoded request."""
    spec = request["spec"]
    usages = spec.get("usages") or []
    causes = [] if usages else [required("spec.usages")]
    for index, usage in enumerate(usages):
        field = f"spec.usages[{index}]"
        if usage not in USAGES:
            causes.append(not_supported(field, usage, list(USAGES)))
        elif usage in usages[:index]:
            causes.append(duplicate(field, usage))
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < _MIN_S:
        rule = "may not specify a duration less than 600 seconds"
        causes.append(invalid("spec.expirationSeconds", seconds, rule))
    return causes + _check_signer(spec.get("signerName", "")) + _check_conditions(request)


def _check_signer(name: str) -> list[Cause]:
    if not name:
        return []  # missing, which was found before
    if name == _LEGACY:
        rule = "the legacy signerName is not allowed via this API version"
        return [invalid("spec.signerName", name, rule)]
    domain, slash, path = name.partition("/")
    if not slash or "/" in path or "." not in domain or len(name) > 571:
        rule = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid("spec.signerName", name, rule)]
    return [
        invalid("spec.signerName", name, f"validating label {part!r}: {problem}")
        for part in (domain, path)
        if (problem := subdomain_problem(part))
    ]


def _check_conditions(request: Object) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, condition in enumerate(request.get("status", {}).get("conditions") or []):
        field, kind = f"status.conditions[{index}]", condition.get("type", "")
        if not kind:
            causes.append(required(f"{field}.type"))
        elif kind in seen:
            causes.append(duplicate(f"{field}.type", kind))
        seen.add(kind)
        if kind in DECIDED and condition.get("status") != "True":
            causes.append(not_supported(f"{field}.status", condition.get("status"), ["True"]))
        if {"Approved", "Denied"} <= seen and kind in ("Approved", "Denied"):
            rule = "Approved and Denied conditions are mutually exclusive"
            causes.append(invalid(f"{field}.type", kind, rule))
    return causes


def request_update(request: Object, old: Object) -> list[Cause]:
    """Return what an update takes back that was decided."""
    now = {c.get("type") for c in request.get("status", {}).get("conditions") or ()}
    before = {c.get("type") for c in old.get("status", {}).get("conditions") or ()}
    causes = [
        forbidden("status.conditions", f'updates may not remove a condition of type "{kind}"')
        for kind in DECIDED
        if kind in before - now
    ]
    issued = old.get("status", {}).get("certificate")
    if issued and request.get("status", {}).get("certificate") != issued:
        rule = "updates may not set certificate content once it is set"
        causes.append(forbidden("status.certificate", rule))
    return causes
