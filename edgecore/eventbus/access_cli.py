"""`edgecore broker acl`: credentials for devices, and the files with which a broker keeps them to their own topics."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from edgecore.eventbus.access import AGENT, is_user, mosquitto_acl, password_line, read_passwords

EXIT_USAGE = 2
PASSWORDS, ACL, SECRETS = "passwords", "mosquitto.acl", "secrets"


def main(argv: Sequence[str]) -> int:
    """Run `edgecore broker …`; return the exit status."""
    parser = argparse.ArgumentParser(prog="edgecore broker")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    acl = commands.add_parser(
        "acl",
        help="make or extend the password file, mosquitto's ACL, and the secrets of new users",
        description="Files in --out: `passwords` (broker.password_file, or mosquitto's password_file), "
        "`mosquitto.acl` (its acl_file), `secrets` (user and password of who is new; give them out, then delete it). "
        "Who has a password already keeps it.",
    )
    acl.add_argument("users", nargs="+", metavar="USER", help="namespace/name or program:NAME")
    acl.add_argument("--out", type=Path, default=Path(), help="folder (default: here)")
    args = parser.parse_args(argv)
    try:
        made = write_files(args.out, args.users)
    except (OSError, ValueError) as exc:
        sys.stderr.write(f"edgecore broker acl: {exc}\n")
        return EXIT_USAGE
    sys.stdout.write(f"{len(made)} new users; their passwords are in {args.out / SECRETS}\n")
    return 0


def write_files(folder: Path, users: Sequence[str]) -> list[str]:
    """Write the three files; return the users that are new. Raises: ValueError, OSError."""
    for user in users:
        if not is_user(user) or user == AGENT:
            raise ValueError(f"{user[:80]!r} is neither namespace/name nor program:NAME")
    path = folder / PASSWORDS
    text = path.read_text() if path.exists() else ""
    held = read_passwords(text)
    fresh = [user for user in dict.fromkeys((AGENT, *users)) if user not in held]
    told = {user: secrets.token_urlsafe(16) for user in fresh}
    text += "".join(password_line(user, told[user], secrets.token_bytes(12)) for user in fresh)
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, text, 0o600)
    everyone = [user for user in (*held, *fresh) if user != AGENT]
    _write(folder / ACL, mosquitto_acl(everyone), 0o644)
    if told:
        _write(folder / SECRETS, "".join(f"{user} {word}\n" for user, word in told.items()), 0o600)
    return fresh


def _write(path: Path, text: str, mode: int) -> None:
    part = path.with_name(path.name + ".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as out:
        out.write(text)
    part.replace(path)
