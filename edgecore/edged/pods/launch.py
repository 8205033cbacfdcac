"""Starting one container: image, environment, mounts, create, start; with kubelet's Events on the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgecore.edged.containers.environment import Lookup, resolve_environment
from edgecore.edged.containers.network import hosts_file
from edgecore.edged.images.keyring import auths_for, credentials_in
from edgecore.edged.logs.links import link_folder, make_link
from edgecore.edged.pods.provision import node_hosts
from edgecore.edged.pods.reporter import PodReporter
from edgecore.edged.pods.site import Site
from edgecore.edged.runtime import ContainerStartError, Mount, SandboxConfig
from edgecore.edged.spec.podspec import Container, Pod
from edgecore.edged.volumes.containermounts import container_mounts
from edgecore.edged.volumes.podvolumes import MESSAGES, PodVolumes

logger = logging.getLogger(__name__)

TERMINATION_MESSAGE_BYTES = 4096
# kubelet's limits for FallbackToLogsOnError.
LOG_TAIL_BYTES, LOG_TAIL_LINES = 2048, 80


@dataclass(frozen=True)
class Launch:
    """One pod with everything its containers are started from."""

    site: Site
    pod: Pod
    volumes: PodVolumes
    lookup: Lookup
    sandbox_id: str
    sandbox: SandboxConfig
    pod_ips: list[str]
    reporter: PodReporter
    running: Mapping[str, str] = field(default_factory=dict)  # container name -> id

    async def start(self, container: Container, attempt: int) -> str:
        """Create and start `container`; return its id. Raises: ContainerStartError, RuntimeUnavailableError."""
        await self._ensure_image(container)
        provision = self.site.provision
        environment = resolve_environment(
            self.pod,
            container,
            self.lookup,
            self.site.facts(self.pod_ips),
            await provision.service_variables(self.pod),
        )
        for sentence in environment.skipped:
            self.reporter.emit("InvalidEnvironmentVariableNames", sentence, container.name, True)
        env = environment.variables
        can_recurse = await provision.mounts_recursively_read_only(self.pod)
        mounts = await asyncio.to_thread(
            self._mounts, container, attempt, dict(env), can_recurse=can_recurse
        )
        config = await provision.container(self.pod, container, attempt, env, mounts)
        if container.target_container_name:
            config = replace(config, target_id=self._target(container))
        runtime, name = self.site.runtime, container.name
        container_id = await runtime.create_container(self.sandbox_id, config, self.sandbox)
        self.reporter.emit("Created", f"Created container: {name}", name, False)
        await runtime.start_container(container_id)
        self.reporter.emit("Started", f"Started container {name}", name, False)
        await self._link_log(container_id, config.log_path, name)
        return container_id

    async def _link_log(self, container_id: str, log_path: str, name: str) -> None:
        """Make the link that log shippers read; a container runs without it all the same."""
        settings = self.site.settings
        folder = link_folder(settings.container_log_links, settings.log_dir)
        if folder is None:
            return
        log = Path(self.sandbox.log_dir, log_path)
        try:
            await asyncio.to_thread(make_link, folder, self.sandbox.pod, name, container_id, log)
        except OSError as exc:
            logger.warning("no link to the log of container %s: %s", name, exc)

    def _target(self, container: Container) -> str:
        """Return the id of the container whose processes an ephemeral container shall see."""
        wanted = container.target_container_name
        if wanted not in self.running:
            raise ContainerStartError(
                "CreateContainerConfigError", f'unable to find target container "{wanted}"'
            )
        return self.running[wanted]

    async def _ensure_image(self, container: Container) -> None:
        """Have the image present, fetched if the policy asks for it."""
        reference, name, policy = container.image, container.name, container.pull_policy
        try:
            if not reference or reference != reference.strip():
                raise ContainerStartError("InvalidImageName", "invalid name")
            present = await self.site.runtime.image(reference)
        except ContainerStartError as exc:
            raise self._not_inspected(container, exc) from exc
        if present is not None and policy != "Always":
            message = f'Container image "{reference}" already present on machine'
            self.reporter.emit("Pulled", message, name, False)
            return
        if policy == "Never":
            message = f'Container image "{reference}" is not present with pull policy of Never'
            self.reporter.emit("ErrImageNeverPull", message, name, True)
            raise ContainerStartError("ErrImageNeverPull", message)
        await self._pull(container)

    def _not_inspected(
        self, container: Container, cause: ContainerStartError
    ) -> ContainerStartError:
        """Return the refusal of an image that cannot even be looked at, and tell it."""
        message = cause.message
        if cause.reason == "InvalidImageName":
            message = f'Failed to apply default image tag "{container.image}": {message}'
        self.reporter.emit("InspectFailed", message, container.name, True)
        return ContainerStartError(cause.reason, message)

    async def _pull(self, container: Container) -> None:
        reference, name = container.image, container.name
        self.reporter.emit("Pulling", f'Pulling image "{reference}"', name, False)
        await self.reporter.flush()  # a pull can take minutes
        credentials = credentials_in(
            content
            for ref in self.pod.spec.image_pull_secrets
            if (content := self.lookup("Secret", ref.name)) is not None
        )
        try:
            pulled = await self.site.puller.pull(reference, auths_for(reference, credentials))
        except ContainerStartError as exc:
            message = f'Failed to pull image "{reference}": {exc.message}'
            self.reporter.emit("Failed", message, name, True)
            raise
        message = (
            f'Successfully pulled image "{reference}" in {_shown(pulled.pull_s)} '
            f"({_shown(pulled.total_s)} including waiting). "
            f"Image size: {pulled.image.size_bytes} bytes."
        )
        self.reporter.emit("Pulled", message, name, False)

    def _mounts(
        self, container: Container, attempt: int, env: dict[str, str], *, can_recurse: bool
    ) -> list[Mount]:
        """Return the bind mounts of `container`; blocks."""
        mounts = container_mounts(self.volumes, container, env, can_recurse=can_recurse)
        if self.site.has_own_filesystems:
            mounts += self._own_files(container, attempt, {m.container_path for m in mounts})
        return mounts

    def _own_files(self, container: Container, attempt: int, taken: set[str]) -> list[Mount]:
        """Return the mounts of /etc/hosts and of the termination message."""
        mounts: list[Mount] = []
        if "/etc/hosts" not in taken:
            domain = self.site.provision.cluster_domain
            content = hosts_file(self.pod, self.pod_ips, domain, node_hosts())
            path = self.volumes.write_file("etc-hosts", content, 0o644)
            mounts.append(Mount(str(path), "/etc/hosts", se_linux_relabel=True))
        if container.termination_message_path not in taken:
            place = message_file(container.name, attempt)
            path = self.volumes.write_file(place, b"", 0o666)
            target = container.termination_message_path
            mounts.append(Mount(str(path), target, se_linux_relabel=True))
        return mounts


def _shown(seconds: float) -> str:
    """Return a duration as kubelet prints it: whole milliseconds."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:.3g}s" if minutes else f"{rest:.4g}s"


def message_file(container: str, attempt: int) -> str:
    """Return where the termination message of an attempt lies, below the pod's folder."""
    return f"{MESSAGES}/{container}/{attempt}"


def read_termination_message(
    volumes: PodVolumes, container: Container, attempt: int, exit_code: int, log_dir: str
) -> str:
    """Return what a container left to say, "" if nothing; blocks."""
    message = _tail(volumes.folder / message_file(container.name, attempt), head=True)
    if message or not exit_code or container.termination_message_policy == "File":
        return message
    return _tail(Path(log_dir) / container.name / f"{attempt}.log", head=False)


def _tail(path: Path, *, head: bool) -> str:
    try:
        with path.open("rb") as file:
            if head:
                return file.read(TERMINATION_MESSAGE_BYTES).decode(errors="replace")
            file.seek(max(path.stat().st_size - 4 * LOG_TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        return ""
    # A CRI log line is `time stream tag text`.
    texts = [line.split(" ", 3)[3] if line.count(" ") >= 3 else line for line in lines]
    return "\n".join(texts)[-LOG_TAIL_BYTES:]
