"""`ContainerRuntime` over CRI v1. Owns what it remembers of containers; the runtime owns the truth."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import grpc

from edgecore.edged.cri import convert, streaming
from edgecore.edged.cri.connection import CriConnection, CriRefusedError
from edgecore.edged.cri.finishing import finished
from edgecore.edged.cri.metering import CriMeter
from edgecore.edged.cri.pb import api_pb2 as pb
from edgecore.edged.cri.turns import Turns
from edgecore.edged.references import check_reference
from edgecore.edged.runtime import (
    ContainerConfig,
    ContainerStartError,
    ContainerState,
    ExecRefusedError,
    ExecResult,
    ExecTimeoutError,
    ImageState,
    Pipes,
    PodIdentity,
    RegistryAuth,
    RuntimeFeatures,
    RuntimeUnavailableError,
    RuntimeVersion,
    SandboxConfig,
    SandboxState,
)

T = TypeVar("T")

CALL_TIMEOUT_S = 120.0  # kubelet's own limit
# A pod may ask for any int64; runtimes count in nanoseconds, of which an int64 holds 292 years.
MAX_GRACE_S = 100 * 365 * 86_400.0
PULL_TIMEOUT_S = 900.0  # kubelet has none, and so waits for ever on a registry that stalls
EXEC_SLACK_S = 5.0  # the runtime's own limit comes first, and then it takes a moment to kill
VERSION_TIMEOUT_S = 10.0  # asked at start and by node status, which must not hang with the runtime


class CriRuntime(CriMeter):
    """Containers by a CRI runtime on `socket_path`; sees only what was made with the same `owner`.

    A poll of `list_sandboxes` costs two calls while nothing changes: start and end times, exit codes and
    pod addresses never change once known, so they are asked for once and remembered.
    """

    name = "cri"

    def __init__(
        self,
        socket_path: str,
        *,
        owner: str,
        call_timeout_s: float = CALL_TIMEOUT_S,
        pull_timeout_s: float = PULL_TIMEOUT_S,
    ) -> None:
        self.owner = owner
        super().__init__(CriConnection(socket_path, call_timeout_s), {convert.OWNER_LABEL: owner})
        self._pull_timeout_s = pull_timeout_s
        self._turns = Turns()
        self._containers: dict[
            str, tuple[int, ContainerState]
        ] = {}  # by id: CRI state, what we know
        self._ips: dict[str, tuple[str, ...]] = {}  # by sandbox id

    async def version(self) -> RuntimeVersion:
        """Return name and version, and take the name as our own. Raises: RuntimeUnavailableError."""
        request = pb.VersionRequest(version="v1")
        call = self._cri.call("Version", request, pb.VersionResponse, timeout_s=VERSION_TIMEOUT_S)
        answer = await _or_unavailable(call)
        self.name = answer.runtime_name  # what stands before :// in a container's id
        return RuntimeVersion(answer.runtime_name, answer.runtime_version)

    async def features(self) -> RuntimeFeatures:
        """Return what the runtime says it can do. Raises: RuntimeUnavailableError."""
        request = pb.StatusRequest(verbose=True)
        call = self._cri.call("Status", request, pb.StatusResponse, timeout_s=VERSION_TIMEOUT_S)
        return convert.features(await _or_unavailable(call))

    async def list_sandboxes(self) -> list[SandboxState]:
        """Return every sandbox of this owner with its containers, newest first."""
        return await self._list({convert.OWNER_LABEL: self.owner}, forget=True)

    async def sandbox(self, pod_uid: str) -> list[SandboxState]:
        """Return the sandboxes of one pod, newest first."""
        labels = {convert.OWNER_LABEL: self.owner, convert.POD_UID_LABEL: pod_uid}
        return await self._list(labels, forget=False)

    async def events(self) -> AsyncIterator[str]:
        """Yield the uid of each pod that changed; end if the runtime tells none (containerd does from 1.7 on).

        Raises:  RuntimeUnavailableError.
        """
        request = pb.GetEventsRequest()
        try:
            async for event in self._cri.stream(
                "GetContainerEvents", request, pb.ContainerEventResponse
            ):
                yield event.pod_sandbox_status.metadata.uid
        except CriRefusedError as exc:
            if exc.code is not grpc.StatusCode.UNIMPLEMENTED:
                raise RuntimeUnavailableError(str(exc)) from exc

    async def run_sandbox(self, config: SandboxConfig) -> str:
        """Make and start a sandbox; return its id. Raises: ContainerStartError (CreatePodSandboxError)."""
        _make_folder(Path(config.log_dir), "CreatePodSandboxError")
        message = _built(
            "CreatePodSandboxError", lambda: convert.sandbox_config(config, self.owner)
        )
        request = pb.RunPodSandboxRequest(config=message, runtime_handler=config.handler)
        async with self._turns.turn():
            call = self._cri.call("RunPodSandbox", request, pb.RunPodSandboxResponse)
            return (await _or_start_error("CreatePodSandboxError", finished(call))).pod_sandbox_id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Stop what still runs in it and give back its network."""
        request = pb.StopPodSandboxRequest(pod_sandbox_id=sandbox_id)
        await _unless_gone(self._cri.call("StopPodSandbox", request, pb.StopPodSandboxResponse))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove it with its containers."""
        request = pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id)
        await self.stop_sandbox(sandbox_id)  # a runtime refuses to remove one whose network is up
        await _unless_gone(self._cri.call("RemovePodSandbox", request, pb.RemovePodSandboxResponse))

    async def create_container(
        self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig
    ) -> str:
        """Create a container; return its id. Raises: ContainerStartError."""
        check_reference(config.image)
        if config.log_path:  # the runtime opens the file, but makes no folder for it
            log_file = Path(sandbox.log_dir, config.log_path)
            _make_folder(log_file.parent, "CreateContainerConfigError")
        container = _built(
            "CreateContainerConfigError",
            lambda: convert.container_config(config, sandbox, self.owner),
        )
        security = container.linux.security_context
        if config.security.run_as_group is not None and config.security.run_as_user is None:
            await self._take_user_of_image(config.image, security)
        request = pb.CreateContainerRequest(
            pod_sandbox_id=sandbox_id,
            config=container,
            sandbox_config=convert.sandbox_config(sandbox, self.owner),
        )
        # CRI wants the sandbox itself marked if a container in it is privileged.
        request.sandbox_config.linux.security_context.privileged |= security.privileged
        call = self._cri.call("CreateContainer", request, pb.CreateContainerResponse)
        return (await _or_start_error("CreateContainerError", finished(call))).container_id

    async def start_container(self, container_id: str) -> None:
        """Start it. Raises: ContainerStartError (RunContainerError)."""
        request = pb.StartContainerRequest(container_id=container_id)
        async with self._turns.turn():
            call = self._cri.call("StartContainer", request, pb.StartContainerResponse)
            await _or_start_error("RunContainerError", finished(call))

    async def stop_container(self, container_id: str, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after `grace_s` seconds; return when it has exited."""
        # CRI counts whole seconds; never less than promised
        seconds = max(0, math.ceil(min(grace_s, MAX_GRACE_S)))
        request = pb.StopContainerRequest(container_id=container_id, timeout=seconds)
        limit_s = seconds + self._cri.timeout_s
        call = self._cri.call("StopContainer", request, pb.StopContainerResponse, timeout_s=limit_s)
        await _unless_gone(call)

    async def remove_container(self, container_id: str) -> None:
        """Remove it, killing it if it runs."""
        request = pb.RemoveContainerRequest(container_id=container_id)
        await _unless_gone(self._cri.call("RemoveContainer", request, pb.RemoveContainerResponse))

    async def exec_url(self, container_id: str, command: Sequence[str], pipes: Pipes) -> str:
        """Return a URL, good for one connection, that runs `command`. Raises: StreamingRefusedError."""
        request = pb.ExecRequest(container_id=container_id, cmd=command, **asdict(pipes))
        return await streaming.url(self._cri, "Exec", request, pb.ExecResponse)

    async def attach_url(self, container_id: str, pipes: Pipes) -> str:
        """Return a URL, good for one connection, of the container's own streams. Raises: StreamingRefusedError."""
        request = pb.AttachRequest(container_id=container_id, **asdict(pipes))
        return await streaming.url(self._cri, "Attach", request, pb.AttachResponse)

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str:
        """Return a URL, good for one connection, to ports of the pod. Raises: StreamingRefusedError."""
        request = pb.PortForwardRequest(pod_sandbox_id=sandbox_id, port=ports)
        return await streaming.url(self._cri, "PortForward", request, pb.PortForwardResponse)

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout_s: float
    ) -> ExecResult:
        """Run `command`. Raises: ExecTimeoutError, ExecRefusedError, RuntimeUnavailableError."""
        seconds = max(1, math.ceil(timeout_s))
        request = pb.ExecSyncRequest(container_id=container_id, cmd=command, timeout=seconds)
        limit_s = seconds + EXEC_SLACK_S
        call = self._cri.call("ExecSync", request, pb.ExecSyncResponse, timeout_s=limit_s)
        try:
            answer = await call
        except CriRefusedError as exc:
            if "timed out" in exc.details or "timeout" in exc.details:
                raise ExecTimeoutError(_timed_out(command, seconds)) from exc
            raise ExecRefusedError(exc.details) from exc
        except RuntimeUnavailableError as exc:
            # containerd says DEADLINE_EXCEEDED, as gRPC itself does, when the command took too long.
            if "ExecSync" in str(exc) and _is_deadline(exc):
                raise ExecTimeoutError(_timed_out(command, seconds)) from exc
            raise
        return ExecResult(answer.exit_code, answer.stdout + answer.stderr)

    async def image(self, reference: str) -> ImageState | None:
        """Return the image if it is present. Raises: ContainerStartError (InvalidImageName)."""
        found = await self._image(reference)
        return convert.image_state(found) if found is not None else None

    async def pull(self, reference: str, auth: RegistryAuth | None = None) -> ImageState:
        """Fetch an image. Raises: ContainerStartError (ErrImagePull, InvalidImageName)."""
        check_reference(reference)
        request = pb.PullImageRequest(image=pb.ImageSpec(image=reference))
        if auth is not None:
            request.auth.CopyFrom(convert.auth_config(auth))
        call = self._cri.call(
            "PullImage", request, pb.PullImageResponse, timeout_s=self._pull_timeout_s
        )
        await _or_start_error("ErrImagePull", call)
        image = await self.image(reference)
        if image is None:
            raise ContainerStartError("ErrImagePull", f'"{reference}" was pulled, but is not there')
        return image

    async def images(self) -> list[ImageState]:
        """Return all images that are present."""
        call = self._cri.call("ListImages", pb.ListImagesRequest(), pb.ListImagesResponse)
        return [convert.image_state(image) for image in (await _or_unavailable(call)).images]

    async def close(self) -> None:
        """Let go of the connection; containers keep running."""
        await self._cri.close()

    async def _list(self, labels: dict[str, str], *, forget: bool) -> list[SandboxState]:
        pods = pb.ListPodSandboxRequest(filter=pb.PodSandboxFilter(label_selector=labels))
        call = self._cri.call("ListPodSandbox", pods, pb.ListPodSandboxResponse)
        sandboxes = (await _or_unavailable(call)).items
        every = pb.ListContainersRequest(filter=pb.ContainerFilter(label_selector=labels))
        listing = self._cri.call("ListContainers", every, pb.ListContainersResponse)
        containers = (await _or_unavailable(listing)).containers
        if forget:
            _keep_only(self._ips, (item.id for item in sandboxes))
            _keep_only(self._containers, (container.id for container in containers))
        members: dict[str, list[ContainerState]] = {}
        for container in containers:
            if (state := await self._container(container)) is not None:
                members.setdefault(container.pod_sandbox_id, []).append(state)
        states = [await self._sandbox(s, members.get(s.id, [])) for s in sandboxes]
        return sorted(states, key=lambda state: state.created_s, reverse=True)

    async def _sandbox(self, listed: pb.PodSandbox, members: list[ContainerState]) -> SandboxState:
        ready = listed.state == pb.SANDBOX_READY
        pod = listed.metadata
        return SandboxState(
            id=listed.id,
            pod=PodIdentity(namespace=pod.namespace, name=pod.name, uid=pod.uid),
            attempt=pod.attempt,
            ready=ready,
            created_s=listed.created_at / 1e9,
            ips=await self._addresses(listed.id) if ready else self._ips.get(listed.id, ()),
            containers=tuple(sorted(members, key=lambda state: state.created_s)),
        )

    async def _addresses(self, sandbox_id: str) -> tuple[str, ...]:
        if sandbox_id not in self._ips:
            request = pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
            call = self._cri.call("PodSandboxStatus", request, pb.PodSandboxStatusResponse)
            answer = await _unless_gone(call)
            if answer is None or answer.status.state != pb.SANDBOX_READY:
                return ()
            network = answer.status.network
            found = (network.ip, *(extra.ip for extra in network.additional_ips))
            self._ips[sandbox_id] = tuple(address for address in found if address)
        return self._ips[sandbox_id]

    async def _container(self, listed: pb.Container) -> ContainerState | None:
        """Return all of `listed`, asking only what is not known of its present state; None if it is gone."""
        if listed.state == pb.CONTAINER_CREATED:
            return convert.container_state(listed)
        known = self._containers.get(listed.id)
        if known is not None and known[0] == listed.state:
            return known[1]
        request = pb.ContainerStatusRequest(container_id=listed.id)
        call = self._cri.call("ContainerStatus", request, pb.ContainerStatusResponse)
        answer = await _unless_gone(call)
        if answer is None:
            return None
        state = convert.container_state(listed, answer.status)
        self._containers[listed.id] = answer.status.state, state
        return state

    async def _image(self, reference: str) -> pb.Image | None:
        check_reference(reference)
        request = pb.ImageStatusRequest(image=pb.ImageSpec(image=reference))
        try:
            answer = await self._cri.call("ImageStatus", request, pb.ImageStatusResponse)
        except CriRefusedError as exc:
            if exc.not_found:
                return None
            message = f'Failed to inspect image "{reference}": {exc.details}'
            raise ContainerStartError("ImageInspectError", message) from exc
        return answer.image if answer.HasField("image") else None

    async def _take_user_of_image(
        self, reference: str, security: pb.LinuxContainerSecurityContext
    ) -> None:
        """CRI refuses a group without a user, so name the image's own user, as kubelet does."""
        image = await self._image(reference)
        if image is not None and image.username:
            security.run_as_username = image.username
        else:
            security.run_as_user.value = image.uid.value if image is not None else 0


def _timed_out(command: Sequence[str], seconds: int) -> str:
    return f'command timed out: "{" ".join(command)}" timed out after {seconds}s'


def _is_deadline(exc: BaseException) -> bool:
    cause = exc.__cause__
    return (
        isinstance(cause, grpc.aio.AioRpcError)
        and cause.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    )


async def _or_unavailable(call: Awaitable[T]) -> T:
    try:
        return await call
    except CriRefusedError as exc:
        raise RuntimeUnavailableError(str(exc)) from exc


async def _unless_gone(call: Awaitable[T]) -> T | None:
    try:
        return await call
    except CriRefusedError as exc:
        if exc.not_found:
            return None
        raise RuntimeUnavailableError(str(exc)) from exc


async def _or_start_error(reason: str, call: Awaitable[T]) -> T:
    try:
        return await call
    except CriRefusedError as exc:
        raise ContainerStartError(reason, exc.details) from exc


def _built(reason: str, build: Callable[[], T]) -> T:
    """Return the message; a value that has no place in it (a number too large, a stray byte) is refused."""
    try:
        return build()
    except (TypeError, ValueError) as exc:
        raise ContainerStartError(reason, str(exc)) from exc


def _make_folder(folder: Path, reason: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ContainerStartError(reason, f"log folder {folder}: {exc.strerror}") from exc


def _keep_only(cache: dict[str, T], ids: Iterable[str]) -> None:
    for gone in cache.keys() - set(ids):
        del cache[gone]
