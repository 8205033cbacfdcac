"""Who may touch which topics: a device its own, named programs all of `$hw` and what is uploaded. Pure.

One password file serves the embedded broker and mosquitto: lines as mosquitto_passwd writes them. A device's user name
is its id, `namespace/name`; a program's begins with `program:`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable

from edgecore.eventbus.topics import device_prefix, is_program, upload_prefix

AGENT = "armadillo-edge"
PROGRAM = "program:"
# mosquitto's own format and cost, or it would not read the file. The secrets are 128 random bits, not words.
ITERATIONS, HASH_BYTES = 101, 64
MAX_ITERATIONS = 1_000_000
_DEVICE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_PROGRAM = re.compile(r"program:[A-Za-z0-9._-]{1,64}")


def is_user(name: str) -> bool:
    """Tell whether `name` can be a user here: a device's id, a program, or the agent."""
    return bool(name == AGENT or _PROGRAM.fullmatch(name) or _DEVICE.fullmatch(name))


def may(user: str, topic: str) -> bool:
    """Tell whether `user` may publish to, subscribe to, or get messages of a topic or topic filter."""
    if user == AGENT:
        return True
    if user.startswith(PROGRAM):
        return is_program(topic)
    own = topic.startswith((device_prefix(user), upload_prefix(user)))
    return own and _DEVICE.fullmatch(user) is not None


def password_line(user: str, password: str, salt: bytes) -> str:
    """Return a line of the password file."""
    words = (base64.b64encode(part).decode() for part in (salt, _hash(password, salt, ITERATIONS)))
    return f"{user}:$7${ITERATIONS}${'$'.join(words)}\n"


def read_passwords(text: str) -> dict[str, str]:
    """Return hashes by user. Raises: ValueError: naming the line."""
    hashes = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, _, hashed = line.strip().rpartition(":")
        if not is_user(user):
            raise ValueError(
                f"line {number}: {user[:80]!r} is neither namespace/name nor program:NAME"
            )
        if not _parts(hashed):
            raise ValueError(
                f"line {number}: the password is not hashed as `edgecore broker acl` does"
            )
        hashes[user] = hashed
    return hashes


def password_fits(hashed: str, password: str) -> bool:
    """Tell whether a password is the one of a hash."""
    parts = _parts(hashed)
    if parts is None:
        return False
    iterations, salt, wanted = parts
    return hmac.compare_digest(_hash(password, salt, iterations), wanted)


def mosquitto_acl(users: Iterable[str]) -> str:
    """Return mosquitto's acl_file for these users and the agent."""
    lines = ["# Made by `edgecore broker acl`.", f"user {AGENT}", "topic readwrite $hw/#"]
    lines += ["topic readwrite #"]
    for user in users:
        lines += ["", f"user {user}"]
        if user.startswith(PROGRAM):
            lines += ["topic readwrite $hw/#", "topic readwrite +/user/#"]
            lines += ["topic readwrite SYS/dis/upload_records"]
        else:
            # No `pattern` with %u: mosquitto refuses names with a slash there.
            lines += [f"topic readwrite {f(user)}#" for f in (device_prefix, upload_prefix)]
    return "\n".join(lines) + "\n"


def _hash(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations, HASH_BYTES)


def _parts(hashed: str) -> tuple[int, bytes, bytes] | None:
    words = hashed.split("$")
    if len(words) != 5 or words[:2] != ["", "7"] or not words[2].isdecimal():
        return None
    iterations = int(words[2]) if len(words[2]) < 8 else MAX_ITERATIONS + 1
    try:
        salt, wanted = (base64.b64decode(word, validate=True) for word in words[3:])
    except (binascii.Error, ValueError):
        return None
    return (iterations, salt, wanted) if 0 < iterations <= MAX_ITERATIONS and wanted else None
