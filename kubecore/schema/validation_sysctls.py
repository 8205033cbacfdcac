"""Rules of the kernel parameters that a pod asks for, with the API server's words; which are allowed the node decides."""

from __future__ import annotations

import re
from typing import Any

from kubecore.values.invalid import Cause, duplicate, invalid, required

MAX_NAME_CHARS = 253
_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_NAME = rf"({_SEGMENT}[\./])*{_SEGMENT}"
_RULE = f"must have at most {MAX_NAME_CHARS} characters and match regex {_NAME}"


def check_sysctls(spec: dict[str, Any]) -> list[Cause]:
    """Return what is wrong with the names in `securityContext.sysctls` of a pod's spec."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, sysctl in enumerate((spec.get("securityContext") or {}).get("sysctls") or []):
        field, name = f"spec.securityContext.sysctls[{index}].name", sysctl.get("name") or ""
        if not name:
            causes.append(required(field))
        elif len(name) > MAX_NAME_CHARS or not re.fullmatch(_NAME, name):
            causes.append(invalid(field, name, _RULE))
        elif name in seen:
            causes.append(duplicate(field, name))
        seen.add(name)
    return causes
