"""`$(NAME)` in environment, commands and arguments, as Kubernetes expands it; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")
# The kernel's MAX_ARG_STRLEN, terminator included: one argument or `NAME=value` may not be longer.
MAX_STRING_BYTES = 128 << 10


class ExpansionTooLongError(ValueError):
    """What is expanded would grow beyond what the kernel takes; `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"longer than {limit} bytes once expanded")


def expand(text: str, env: Mapping[str, str], limit: int = MAX_STRING_BYTES) -> str:
    """Replace `$(NAME)` by its value; an unknown name stays as it is, `$$` is a dollar sign.

    Raises:  ExpansionTooLongError: before anything that long is made, so that ten variables that each name the one
             before a hundred times cost nothing.
    """
    if "$" not in text:
        return text
    parts: list[str] = []
    length = end = 0
    for match in _REFERENCE.finditer(text):
        name = match[1]
        value = "$" if name is None else env.get(name, match[0])
        length += match.start() - end + len(value)
        if length > limit:
            raise ExpansionTooLongError(limit)
        parts += (text[end : match.start()], value)
        end = match.end()
    parts.append(text[end:])
    return "".join(parts)


def missing_names(text: str, env: Mapping[str, str]) -> list[str]:
    """Return the names that `text` refers to and `env` has not."""
    names = [match[1] for match in _REFERENCE.finditer(text) if match[1] is not None]
    return [name for name in names if name not in env]
