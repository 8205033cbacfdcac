"""Image references: what may be one. Runtimes answer "not found" to nonsense; kubelet says InvalidImageName."""

from __future__ import annotations

import re

from edgecore.edged.runtime import ContainerStartError

# The grammar of the distribution project's "reference": [host[:port]/]path[:tag][@digest].
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
MAX_NAME_LENGTH = 255  # of the grammar


def check_reference(reference: str) -> None:
    """Return if `reference` may name an image. Raises: ContainerStartError (InvalidImageName)."""
    if _IMAGE_ID.fullmatch(reference):
        return
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        problem = "invalid reference format"
    elif len(match["name"]) > MAX_NAME_LENGTH:
        problem = f"repository name must not be more than {MAX_NAME_LENGTH} characters"
    else:
        return
    shown = reference if len(reference) <= 300 else reference[:300] + "…"
    raise ContainerStartError(
        "InvalidImageName", f'couldn\'t parse image name "{shown}": {problem}'
    )
