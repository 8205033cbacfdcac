"""Start one container's process, copy its output into a log file, and write down how it ended.

Run as a program by `runtime.py`, with this folder as its only one beside the standard library, and its order
(a marshalled dict) on standard input. It prints "started" or what went wrong, and goes on in the background, without edgecore.
There is one of it per container, so it imports nothing that it can do without: every module is memory.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` would bring `enum`, half a megabyte
import marshal
import os
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, NoReturn

    Order = dict[str, Any]

# As in containerd: a longer line is cut and tagged P(artial).
MAX_LOG_LINE_BYTES = 16 * 1024
# What still holds the output pipe after the process and its group are gone left the group on purpose.
DRAIN_S = 1.0
START_FAILED_CODE = 128  # what containerd reports for a process that never was
_IGNORED = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM)


def main() -> None:
    """Take the order and go into the background."""
    order: Order = marshal.loads(_read_all(0))  # noqa: S302 (from edgecore, by pipe)
    report_r, report_w = os.pipe()
    if os.fork():
        os.close(report_w)
        os.write(1, _read_all(report_r))
        os._exit(0)
    os.close(report_r)
    os.setsid()
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for number in _IGNORED:  # at shutdown everyone is told to end: stay to see the container end
        _signal.signal(number, _signal.SIG_IGN)
    try:
        _supervise(order, report_w)
    except OSError as exc:
        os.write(report_w, f"{exc.strerror}: {exc.filename}".encode())


def _supervise(order: Order, report: int) -> None:
    folder = order["folder"]
    try:
        # A second start of the same container must fail, even if edgecore was killed during the first.
        os.close(os.open(f"{folder}/claim", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        os.write(report, b"container was already started")
        return
    log = _open_log(order)

    def reopen(_number: int, _frame: object) -> None:
        fresh = _open_log(order)
        os.dup2(fresh, log)
        os.close(fresh)

    _signal.signal(_signal.SIGUSR1, reopen)  # sent after the log file was renamed
    (out_r, out_w), (err_r, err_w), (go_r, go_w), (fail_r, fail_w) = (os.pipe() for _ in range(4))
    pid = os.fork()
    if pid == 0:
        os.close(go_w)
        os.close(fail_r)
        _become_container(order, (out_w, err_w), go_r, fail_w)
    for theirs in (out_w, err_w, go_r, fail_w):
        os.close(theirs)
    # On disk before the process runs anything: whoever starts after a crash must find it.
    ours = _identity("supervisor_", os.getpid())
    _write_facts(f"{folder}/started", {**_identity("", pid), **ours, "reopens": 1})
    os.write(go_w, b"g")
    os.close(go_w)
    failure = _read_all(fail_r)  # ends without a byte when exec has replaced the child
    os.close(fail_r)
    if failure:
        os.waitpid(pid, 0)
        text = failure.decode(errors="replace")
        _write_end(folder, START_FAILED_CODE, "StartError", text)
        os.write(report, failure)
        return
    os.write(report, b"started")
    os.close(report)
    _copy_until_exit(pid, {out_r: "stdout", err_r: "stderr"}, log)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 128 - status if status < 0 else status
    _write_end(folder, code, "Error" if code else "Completed", "")


def _open_log(order: Order) -> int:
    return os.open(order["log_file"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)


def _become_container(order: Order, output: tuple[int, int], go: int, fail: int) -> NoReturn:
    """In the child: wait for the word, take on the container's view of the world, and exec."""
    try:
        os.setsid()
        if os.read(go, 1) != b"g":
            os._exit(START_FAILED_CODE)
        for standard, fd in enumerate(output, start=1):
            os.dup2(fd, standard)
        for number in (
            *_IGNORED,
            _signal.SIGPIPE,
        ):  # an ignored signal would stay ignored after exec
            _signal.signal(number, _signal.SIG_DFL)
        os.umask(0o022)
        _isolate(order)
        _take_identity(order)
        _exec(order["argv"], order["env"])
    except OSError as exc:
        where = f" {exc.filename}" if exc.filename else ""
        os.write(fail, f"{exc.strerror or exc}{where}".encode())
    except BaseException as exc:  # noqa: BLE001 (the last thing this process does is to tell)
        os.write(fail, str(exc).encode())
    os._exit(START_FAILED_CODE)


def _isolate(order: Order) -> None:
    if order["private_root"] or order["no_new_privileges"]:
        # Late: only this short-lived child pays for ctypes.
        import private_root  # type: ignore[import-not-found]

        if order["private_root"]:
            private_root.enter(order)
        if order["no_new_privileges"]:
            private_root.forbid_new_privileges()
    try:
        os.makedirs(order["cwd"], exist_ok=True)
        os.chdir(order["cwd"])
    except OSError as exc:
        raise ValueError(f'chdir to cwd ("{order["cwd"]}") failed: {exc.strerror}') from exc


def _take_identity(order: Order) -> None:
    if (score := order["oom_score_adj"]) is not None:
        try:
            with open("/proc/self/oom_score_adj", "w") as handle:
                handle.write(str(score))
        except OSError:
            pass  # lowering it takes a capability; the container runs all the same
    if order["groups"] is not None:
        os.setgroups(order["groups"])
    if order["gid"] is not None:
        os.setgid(order["gid"])
    if order["uid"] is not None:
        os.setuid(order["uid"])


def _exec(argv: list[str], env: dict[str, str]) -> None:
    """Replace this process; errors read as runc words them."""
    name = argv[0]
    candidates = [name] if "/" in name else [f"{d}/{name}" for d in env["PATH"].split(":") if d]
    for path in candidates:
        if "/" not in name and not (os.path.isfile(path) and os.access(path, os.X_OK)):
            continue
        try:
            os.execve(path, argv, env)  # noqa: S606
        except FileNotFoundError as exc:
            problem = f"stat {path}: {exc.strerror}"
            raise ValueError(f'exec: "{name}": {problem.lower()}') from exc
        except OSError as exc:
            raise ValueError(f'exec: "{name}": {str(exc.strerror).lower()}') from exc
    raise ValueError(f'exec: "{name}": executable file not found in $PATH')


def _copy_until_exit(pid: int, streams: dict[int, str], log: int) -> None:
    """Copy output until the process has ended (it is left to be reaped) and its pipes are dry."""
    exit_fd = os.pidfd_open(pid)
    rest = dict.fromkeys(streams, b"")
    poll = select.poll()
    for fd in (*streams, exit_fd):
        poll.register(fd, select.POLLIN)
    deadline = None
    while rest or deadline is None:
        wait_ms = None if deadline is None else max(0.0, (deadline - time.monotonic()) * 1000)
        ready = [fd for fd, _ in poll.poll(wait_ms)]
        if not ready and deadline is not None:
            break
        if exit_fd in ready:
            poll.unregister(exit_fd)
            # A container ends with its first process, so what it left behind in its group ends too.
            # Its number cannot be another's yet: it is not reaped.
            _kill_group(pid)
            deadline = time.monotonic() + DRAIN_S
        for fd in ready:
            if fd in rest:
                chunk = os.read(fd, 65536)
                lines, rest[fd] = _split(rest[fd] + chunk, last=not chunk)
                _log(log, streams[fd], lines)
                if not chunk:
                    poll.unregister(fd)
                    del rest[fd]
    for fd, remaining in rest.items():
        _log(log, streams[fd], _split(remaining, last=True)[0])


def _split(text: bytes, *, last: bool) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return (tag, line) pairs of `text` and what waits for its end of line."""
    lines: list[tuple[bytes, bytes]] = []
    whole, newline, rest = text.rpartition(b"\n")
    for line in whole.split(b"\n") if newline else []:
        tail = line
        while len(tail) > MAX_LOG_LINE_BYTES:
            lines.append((b"P", tail[:MAX_LOG_LINE_BYTES]))
            tail = tail[MAX_LOG_LINE_BYTES:]
        lines.append((b"F", tail))
    while len(rest) > MAX_LOG_LINE_BYTES:
        lines.append((b"P", rest[:MAX_LOG_LINE_BYTES]))
        rest = rest[MAX_LOG_LINE_BYTES:]
    if last and rest:
        lines.append((b"F", rest))
        rest = b""
    return lines, rest


def _log(log: int, stream: str, lines: list[tuple[bytes, bytes]]) -> None:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    prefix = f"{stamp}.{nanoseconds:09d}Z {stream} ".encode()
    try:
        os.write(log, b"".join(prefix + tag + b" " + line + b"\n" for tag, line in lines))
    except OSError:
        pass  # a full disk costs log lines; it must not stop the container


def _identity(prefix: str, pid: int) -> dict[str, object]:
    with open(f"/proc/{pid}/stat", "rb") as handle:
        ticks = int(handle.read().rpartition(b")")[2].split()[19])
    return {f"{prefix}pid": pid, f"{prefix}ticks": ticks}


def _write_end(folder: str, code: int, reason: str, message: str) -> None:
    _write_facts(f"{folder}/exited", {"code": code, "reason": reason, "message": message})


def _write_facts(path: str, facts: dict[str, object]) -> None:
    """Write `key value` lines, all or nothing; edgecore reads them with `files.read_facts`."""
    with open("/proc/sys/kernel/random/boot_id") as handle:
        everything = {"at": repr(time.time()), "boot_id": handle.read().strip(), **facts}
    lines = (f"{key} {str(value).replace(chr(10), ' ')}\n" for key, value in everything.items())
    part = f"{path}.part"
    with open(part, "w") as handle:
        handle.write("".join(lines))
        handle.flush()
        os.fsync(handle.fileno())
    os.rename(part, path)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, _signal.SIGKILL)
    except OSError:
        pass  # nothing left in it


def _read_all(fd: int) -> bytes:
    chunks = []
    while chunk := os.read(fd, 65536):
        chunks.append(chunk)
    return b"".join(chunks)
