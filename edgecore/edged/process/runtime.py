"""`ContainerRuntime` with plain processes, for nodes without a container runtime.

Each container is a process group under a small supervisor that outlives edgecore; all state is in files, so
the next edgecore finds everything again. As root each container sees the host's files copy on write, with its
mounts; otherwise it sees the host itself and cannot have mounts. Network and process numbers are the host's.
CPU and memory limits, capabilities and seccomp are not enforced.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import marshal
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from edgecore.edged.process.execute import execute
from edgecore.edged.process.files import ContainerRecord, RuntimeFiles, SandboxRecord
from edgecore.edged.process.liveness import boot_id, is_alive, signal_group
from edgecore.edged.process.metering import group_usages
from edgecore.edged.references import check_reference
from edgecore.edged.runtime import (
    ContainerConfig,
    ContainerPhase,
    ContainerStartError,
    ContainerState,
    ExecRefusedError,
    ExecResult,
    ImageState,
    Pipes,
    RegistryAuth,
    RuntimeFeatures,
    RuntimeUnavailableError,
    RuntimeVersion,
    SandboxConfig,
    SandboxState,
    StreamingRefusedError,
)
from edgecore.edged.usage import (
    ContainerUsage,
    ImageFilesystem,
    RuntimeCondition,
    RuntimeHandler,
    RuntimeHealth,
)

T = TypeVar("T")

# Imported, not run as a file: compiled once, not for every container; 4.5 MB of its own each instead of 5.2.
# -I -S -E: no site packages, no environment; the package itself would bring all of edged along.
_FOLDER = str(Path(__file__).parent)
_PROGRAM = f"import sys; sys.path.append({_FOLDER!r}); import supervisor; supervisor.main()"
SUPERVISOR = ("-I", "-S", "-E", "-c", _PROGRAM)
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
START_TIMEOUT_S = 30.0  # an interpreter on a slow gateway's flash; a start takes 50 ms on a PC
REOPEN_SIGNAL = signal.SIGUSR1  # the supervisor's, as its own words say
KILL_TIMEOUT_S = 30.0  # SIGKILL may wait for a disk
LOST_CODE = 137  # what kubelet reports for a container whose end nobody saw
# Where there is no private root the host's own files serve for these.
_HOST_HAS = frozenset({"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log"})


class ProcessRuntime:
    """Containers as processes, all state below `root_dir`, which no other runtime may use."""

    name = "process"

    def __init__(self, root_dir: str | os.PathLike[str]) -> None:
        self._files = RuntimeFiles(Path(root_dir).absolute())
        self._boot_id = boot_id()

    async def version(self) -> RuntimeVersion:
        """Return our own name and version."""
        try:
            number = importlib.metadata.version("armadillo-edge")
        except importlib.metadata.PackageNotFoundError:  # run from a source tree
            number = "0.1.0"
        return RuntimeVersion(self.name, number)

    async def features(self) -> RuntimeFeatures:
        """Return that it has no more than every runtime."""
        return RuntimeFeatures()

    async def list_sandboxes(self) -> list[SandboxState]:
        """Return every sandbox with its containers, newest first."""
        return await _in_thread(self._list)

    async def sandbox(self, pod_uid: str) -> list[SandboxState]:
        """Return the sandboxes of one pod, newest first."""
        return [state for state in await self.list_sandboxes() if state.pod.uid == pod_uid]

    async def events(self) -> AsyncIterator[str]:
        """Yield nothing: a look at the files is all there is."""
        nothing: Sequence[str] = ()
        for uid in nothing:
            yield uid

    async def run_sandbox(self, config: SandboxConfig) -> str:
        """Make a sandbox, which is a folder; return its id. Raises: ContainerStartError."""
        record = SandboxRecord(
            secrets.token_hex(32), config.pod, config.attempt, time.time(), self._boot_id
        )
        try:
            await _in_thread(lambda: self._files.add_sandbox(record))
        except RuntimeUnavailableError as exc:
            raise ContainerStartError("CreatePodSandboxError", str(exc)) from exc
        return record.id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Kill what still runs in it."""
        for record in await _in_thread(self._files.list_containers):
            if record.sandbox_id == sandbox_id:
                await self.stop_container(record.id, 0.0)
        await _in_thread(lambda: self._files.mark_stopped(sandbox_id))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove it with its containers."""
        await self.stop_sandbox(sandbox_id)
        for record in await _in_thread(self._files.list_containers):
            if record.sandbox_id == sandbox_id:
                await self.remove_container(record.id)
        await _in_thread(lambda: self._files.remove(self._files.sandboxes / sandbox_id))

    async def create_container(
        self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig
    ) -> str:
        """Write down a container; return its id. Raises: ContainerStartError (CreateContainerConfigError)."""
        check_reference(config.image)
        record = self._record(sandbox_id, config, sandbox)

        def write() -> None:
            Path(record.log_file).parent.mkdir(parents=True, exist_ok=True)
            self._files.add_container(record)

        try:
            await _in_thread(write)
        except RuntimeUnavailableError as exc:
            raise ContainerStartError("CreateContainerError", str(exc)) from exc
        return record.id

    async def start_container(self, container_id: str) -> None:
        """Start it. Raises: ContainerStartError (RunContainerError)."""
        record = await _in_thread(lambda: self._files.container(container_id))
        if record is None:
            raise ContainerStartError("RunContainerError", f"no container {container_id}")
        try:
            said, broke = await _in_thread(lambda: _supervise(self._order(record)))
        except subprocess.TimeoutExpired as exc:
            problem = f"container {container_id}: no supervisor in {START_TIMEOUT_S:.0f} s"
            raise RuntimeUnavailableError(problem) from exc
        if said != b"started":
            problem = (said or broke or b"the supervisor said nothing").decode(errors="replace")
            message = f"unable to start container process: {problem.strip()}"
            raise ContainerStartError("RunContainerError", message)

    async def stop_container(self, container_id: str, grace_s: float) -> None:
        """SIGTERM to the group, then SIGKILL after `grace_s` seconds; return when it has exited."""
        if grace_s > 0:
            await self._signal(container_id, signal.SIGTERM)
            if await self._exited_within(container_id, grace_s):
                return
        await self._signal(container_id, signal.SIGKILL)
        if not await self._exited_within(container_id, KILL_TIMEOUT_S):
            limit = f"{KILL_TIMEOUT_S:.0f} s"
            raise RuntimeUnavailableError(f"container {container_id}: lives {limit} after SIGKILL")

    async def remove_container(self, container_id: str) -> None:
        """Remove it, killing it if it runs."""
        await self.stop_container(container_id, 0.0)
        await _in_thread(lambda: self._files.remove(self._files.containers / container_id))

    async def exec_url(self, _container_id: str, _command: Sequence[str], _pipes: Pipes) -> str:
        """Refuse."""
        raise _no_streams("exec")

    async def attach_url(self, _container_id: str, _pipes: Pipes) -> str:
        """Refuse."""
        raise _no_streams("attach")

    async def port_forward_url(self, _sandbox_id: str, _ports: Sequence[int]) -> str:
        """Refuse."""
        raise _no_streams("port-forward")

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float
    ) -> ExecResult:
        """Run `command`. Raises: ExecTimeoutError, ExecRefusedError."""
        record = await _in_thread(lambda: self._files.container(container_id))
        started = await _in_thread(lambda: self._files.facts(container_id, "started"))
        if record is None or started is None or not is_alive(started):
            raise ExecRefusedError(f"container {container_id} is not running")
        pid = int(started["pid"])
        return await _in_thread(lambda: execute(record, pid, command, timeout_s))

    async def image(self, reference: str) -> ImageState | None:
        """Return the image as present: none is needed. Raises: ContainerStartError (InvalidImageName)."""
        check_reference(reference)
        return ImageState(id=reference, names=(reference,), size_bytes=0)

    async def pull(
        self,
        reference: str,
        auth: RegistryAuth | None = None,  # noqa: ARG002
    ) -> ImageState:
        """Return the image as present. Raises: ContainerStartError (InvalidImageName)."""
        check_reference(reference)
        return ImageState(id=reference, names=(reference,), size_bytes=0)

    async def images(self) -> list[ImageState]:
        """Return nothing: there are none."""
        return []

    async def usages(self) -> list[ContainerUsage]:
        """Return the use of every running container, summed over its process group."""

        def measure() -> list[ContainerUsage]:
            groups: dict[int, str] = {}
            for record in self._files.list_containers():
                started = self._files.facts(record.id, "started")
                if started is not None and is_alive(started):
                    groups[int(started["pid"])] = record.id
            return group_usages(groups) if groups else []

        return await _in_thread(measure)

    async def image_filesystem(self) -> ImageFilesystem:
        """Return none: there are no images."""
        return ImageFilesystem()

    def daemon_pid(self) -> int:
        """Return 0: there is no daemon."""
        return 0

    async def used_images(self) -> set[str]:
        """Return nothing: there are no images."""
        return set()

    async def remove_image(self, image_id: str) -> None:
        """Nothing to remove."""

    async def reopen_log(self, container_id: str) -> None:
        """Have the container's supervisor open its log file again."""
        started = await _in_thread(lambda: self._files.facts(container_id, "started"))
        # A supervisor that an older edgecore started does not know the signal, and would die of it.
        if started is not None and "reopens" in started and is_alive(started, "supervisor_"):
            os.kill(int(started["supervisor_pid"]), REOPEN_SIGNAL)

    async def health(self) -> RuntimeHealth:
        """Return that all is well: there is no daemon that could be down."""
        ready = RuntimeCondition("RuntimeReady", holds=True)
        return RuntimeHealth(
            (ready, RuntimeCondition("NetworkReady", holds=True)), (RuntimeHandler(""),)
        )

    async def close(self) -> None:
        """Nothing to let go of; containers keep running."""

    def _record(
        self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig
    ) -> ContainerRecord:
        if not config.command:
            problem = (
                f'the process runtime has no images: container "{config.name}" needs `command`'
            )
            raise ContainerStartError("CreateContainerConfigError", problem)
        for mount in config.mounts:
            if mount.propagation != "None":
                problem = (
                    f'container "{config.name}": the process runtime has no mount propagation '
                    f"{mount.propagation}: what is mounted later at {mount.container_path} stays apart"
                )
                raise ContainerStartError("CreateContainerConfigError", problem)
        security = config.security
        wanted = (security.run_as_user, security.run_as_group)
        if os.geteuid() != 0:
            _refuse_what_needs_root(config, wanted)
        log_path = config.log_path or f"{config.name}/{config.attempt}.log"
        return ContainerRecord(
            id=secrets.token_hex(32),
            sandbox_id=sandbox_id,
            name=config.name,
            attempt=config.attempt,
            image=config.image,
            created_s=time.time(),
            argv=[*config.command, *config.args],
            env={"PATH": DEFAULT_PATH, **dict(config.env)},
            working_dir=config.working_dir or "/",
            mounts=[(m.host_path, m.container_path, m.read_only) for m in config.mounts],
            log_file=str(Path(sandbox.log_dir, log_path).absolute()),
            user=security.run_as_user,
            group=security.run_as_group,
            groups=security.supplemental_groups,
            read_only=security.read_only_rootfs,
            no_new_privileges=security.no_new_privileges,
            oom_score_adj=config.limits.oom_score_adj,
        )

    def _order(self, record: ContainerRecord) -> dict[str, object]:
        root = os.geteuid() == 0
        drops = root and (record.user is not None or record.group is not None or record.groups)
        return {
            "folder": str(self._files.containers / record.id),
            "log_file": record.log_file,
            "argv": list(record.argv),
            "env": record.env,
            "cwd": record.working_dir,
            "private_root": root,
            "mounts": [tuple(mount) for mount in record.mounts],
            "read_only": record.read_only,
            "no_new_privileges": record.no_new_privileges,
            "oom_score_adj": record.oom_score_adj or None,
            "uid": record.user if root else None,
            "gid": record.group if root else None,
            "groups": list(record.groups) if drops else None,  # edgecore's own must not leak in
        }

    def _list(self) -> list[SandboxState]:
        members: dict[str, list[ContainerState]] = {}
        for record in self._files.list_containers():
            members.setdefault(record.sandbox_id, []).append(self._state(record))
        states = [
            SandboxState(
                id=record.id,
                pod=record.pod,
                attempt=record.attempt,
                ready=record.boot_id == self._boot_id and not self._files.stopped(record.id),
                created_s=record.created_s,
                containers=tuple(sorted(members.get(record.id, []), key=lambda c: c.created_s)),
            )
            for record in self._files.list_sandboxes()
        ]
        return sorted(states, key=lambda state: state.created_s, reverse=True)

    def _state(self, record: ContainerRecord) -> ContainerState:
        started = self._files.facts(record.id, "started") or {}
        ended = self._end(record.id, started)
        if ended is not None:
            phase = ContainerPhase.EXITED
        else:
            phase = ContainerPhase.RUNNING if started else ContainerPhase.CREATED
        ended = ended or {}
        never_ran = ended.get("reason") == "StartError"
        return ContainerState(
            id=record.id,
            name=record.name,
            attempt=record.attempt,
            phase=phase,
            image=record.image,
            image_id=record.image,
            created_s=record.created_s,
            started_s=0.0 if never_ran else float(started.get("at", 0)),
            finished_s=float(ended.get("at", 0)),
            exit_code=int(ended.get("code", 0)),
            reason=ended.get("reason", ""),
            message=ended.get("message", ""),
        )

    def _end(self, container_id: str, started: dict[str, str]) -> dict[str, str] | None:
        """Return how the container ended; None while it is not over."""
        ended = self._files.facts(container_id, "exited")
        if ended is not None or not started:
            return ended
        # While the supervisor lives it has the last word, and may just be writing it.
        if is_alive(started) or is_alive(started, "supervisor_"):
            return None
        lost = {
            "at": repr(time.time()),
            "code": str(LOST_CODE),
            "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the node came back",
        }
        self._files.write_end(container_id, lost)
        return self._files.facts(container_id, "exited") or lost

    async def _signal(self, container_id: str, number: signal.Signals) -> None:
        started = await _in_thread(lambda: self._files.facts(container_id, "started"))
        if started is not None:
            signal_group(started, number)

    async def _exited_within(self, container_id: str, limit_s: float) -> bool:
        started = await _in_thread(lambda: self._files.facts(container_id, "started"))
        if started is None:
            return True  # never started, or not there
        deadline = time.monotonic() + limit_s
        wait_s = 0.01  # most processes end at once; one that takes long is not worth a busy loop
        while await _in_thread(lambda: self._end(container_id, started)) is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            await asyncio.sleep(min(wait_s, left_s))
            wait_s = min(wait_s * 1.5, 0.25)
        return True


def _refuse_what_needs_root(config: ContainerConfig, wanted: tuple[int | None, int | None]) -> None:
    ours = (os.geteuid(), os.getegid())
    for kind, number, own in zip(("runAsUser", "runAsGroup"), wanted, ours, strict=True):
        if number is not None and number != own:
            problem = f'container "{config.name}": {kind} {number} needs edgecore to run as root'
            raise ContainerStartError("CreateContainerConfigError", problem)
    for mount in config.mounts:
        if mount.container_path not in _HOST_HAS:
            problem = (
                f'container "{config.name}": the mount at {mount.container_path} needs root: '
                "the process runtime cannot mount without"
            )
            raise ContainerStartError("CreateContainerConfigError", problem)


def _no_streams(what: str) -> StreamingRefusedError:
    return StreamingRefusedError(
        f"{what} needs a container runtime; this node runs pods as plain processes"
    )


def _supervise(order: dict[str, object]) -> tuple[bytes, bytes]:
    """Start a supervisor and give it its order; return what it says on both streams.

    subprocess and not asyncio's: it uses vfork, which runs no fork handlers. gRPC's handlers, in a process
    whose gRPC threads are busy, were seen to keep the child from starting for half a minute.
    Raises:  subprocess.TimeoutExpired
    """
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, *SUPERVISOR],
        input=marshal.dumps(order),
        capture_output=True,
        env={},
        timeout=START_TIMEOUT_S,
        check=False,
    )
    return done.stdout, done.stderr


async def _in_thread(work: Callable[[], T]) -> T:
    """Run `work` off the event loop; what the disk refuses is the runtime not being available."""
    try:
        return await asyncio.to_thread(work)
    except OSError as exc:
        where = f": {exc.filename}" if exc.filename else ""
        raise RuntimeUnavailableError(f"process runtime: {exc.strerror}{where}") from exc
