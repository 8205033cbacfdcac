"""A command in a process container: in its mount namespace and root, with its user, environment and folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from edgecore.edged.process.files import ContainerRecord
from edgecore.edged.runtime import ExecRefusedError, ExecResult, ExecTimeoutError

MAX_OUTPUT_BYTES = 16 << 20  # what CRI's own message may hold
# Runs in the child: -I -S -E, nothing but ctypes and os. Exit status 126 as a shell has it: cannot be run.
_PROGRAM = """
import ctypes, json, os, sys
order = json.loads(sys.argv[1])
try:
    if order["namespace"]:
        libc = ctypes.CDLL(None, use_errno=True)
        root = os.open(f"/proc/{order['pid']}/root", os.O_RDONLY)
        space = os.open(f"/proc/{order['pid']}/ns/mnt", os.O_RDONLY)
        if libc.setns(space, 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.fchdir(root)
        os.chroot(".")
    os.chdir(order["cwd"])
    if order["groups"] is not None:
        os.setgroups(order["groups"])
    if order["gid"] is not None:
        os.setgid(order["gid"])
    if order["uid"] is not None:
        os.setuid(order["uid"])
    os.execvpe(order["argv"][0], order["argv"], order["env"])
except OSError as exc:
    print(f"exec: {order['argv'][0]}: {exc.strerror}", file=sys.stderr)
    sys.exit(126)
"""


def execute(
    record: ContainerRecord, pid: int, command: Sequence[str], timeout_s: float
) -> ExecResult:
    """Run `command` beside the container's process `pid`; blocks. Raises: ExecTimeoutError, ExecRefusedError."""
    root = os.geteuid() == 0
    order: Mapping[str, object] = {
        "pid": pid,
        "namespace": root,
        "argv": list(command),
        "env": dict(record.env),
        "cwd": record.working_dir,
        "uid": record.user if root else None,
        "gid": record.group if root else None,
        "groups": list(record.groups) if root and record.groups else None,
    }
    child = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", "-E", "-c", _PROGRAM, json.dumps(order)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as exc:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        shown = " ".join(command)
        problem = f'command timed out: "{shown}" timed out after {timeout_s:.0f}s'
        raise ExecTimeoutError(problem) from exc
    if child.returncode == 126 and err.startswith(b"exec: "):
        raise ExecRefusedError(err.decode(errors="replace").strip())
    code = child.returncode if child.returncode >= 0 else 128 - child.returncode
    return ExecResult(code, (out + err)[:MAX_OUTPUT_BYTES])
