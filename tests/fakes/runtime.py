"""A ContainerRuntime in memory: what it is asked becomes its state at once, and `calls` says in which order."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from edgecore.edged.runtime import (
    ContainerPhase,
    ContainerStartError,
    ContainerState,
    ImageState,
    RuntimeFeatures,
    RuntimeUnavailableError,
    RuntimeVersion,
    SandboxState,
)
from edgecore.edged.usage import (
    ContainerUsage,
    ImageFilesystem,
    RuntimeCondition,
    RuntimeHandler,
    RuntimeHealth,
)


class FakeRuntime:
    name = "cri"

    def __init__(self, clock, *images):
        self._clock, self._ids = clock, 0
        self._images = {n: ImageState(f"sha256:{n}", (n,), 1000) for n in images}
        self.registry: dict[str, ImageState] = {}
        self.sandboxes: dict[str, SandboxState] = {}
        self.configs = {}
        self.calls: list[tuple] = []
        self.down = False
        self.changes: asyncio.Queue | None = None  # uids of pods that changed, if it tells
        self.refuse_start: set[str] = set()
        self.refuse_sandbox = ""
        self.auths = []  # of the pulls, in order
        self.streaming_url = ""
        self.pull_gate: asyncio.Event | None = None
        self.usage: dict[str, ContainerUsage] = {}  # by container id; the rest uses nothing
        self.image_fs = ImageFilesystem()
        ready = (RuntimeCondition("RuntimeReady", True), RuntimeCondition("NetworkReady", True))
        self.healthy = RuntimeHealth(ready, (RuntimeHandler(""),))

    def _note(self, *call):
        if self.down:
            raise RuntimeUnavailableError("connection refused")
        self.calls.append(call)

    def _new_id(self):
        self._ids += 1
        return f"id-{self._ids}"

    def container(self, name):
        """The newest container of that name, in any sandbox."""
        found = [c for s in self.sandboxes.values() for c in s.containers if c.name == name]
        return max(found, key=lambda c: (c.attempt, c.created_s))

    def change(self, container_id, **changes):
        for sandbox in self.sandboxes.values():
            if any(c.id == container_id for c in sandbox.containers):
                containers = [
                    replace(c, **changes) if c.id == container_id else c for c in sandbox.containers
                ]
                self.sandboxes[sandbox.id] = replace(sandbox, containers=tuple(containers))

    def exit(self, name, code=0, **more):
        more.setdefault("finished_s", self._clock())
        self.change(self.container(name).id, phase=ContainerPhase.EXITED, exit_code=code, **more)

    def kill_sandbox(self, sandbox_id):
        sandbox = self.sandboxes[sandbox_id]
        for container in sandbox.containers:
            if container.phase is ContainerPhase.RUNNING:
                self.exit(container.name, 137)
        self.sandboxes[sandbox_id] = replace(self.sandboxes[sandbox_id], ready=False)

    async def version(self):
        if self.down:
            raise RuntimeUnavailableError("connection refused")
        return RuntimeVersion("containerd", "1.6.20")

    async def features(self):
        if self.down:
            raise RuntimeUnavailableError("connection refused")
        return RuntimeFeatures()

    async def events(self):
        while self.changes is not None:
            yield await self.changes.get()

    async def list_sandboxes(self):
        if self.down:
            raise RuntimeUnavailableError("connection refused")
        return list(self.sandboxes.values())

    async def sandbox(self, pod_uid):
        if self.down:
            raise RuntimeUnavailableError("connection refused")
        found = [s for s in self.sandboxes.values() if s.pod.uid == pod_uid]
        return sorted(found, key=lambda s: s.attempt, reverse=True)

    async def run_sandbox(self, config):
        self._note("run_sandbox", config.pod.uid, config.attempt)
        if self.refuse_sandbox:
            raise ContainerStartError("CreatePodSandboxError", self.refuse_sandbox)
        sandbox_id = self._new_id()
        self.sandboxes[sandbox_id] = SandboxState(
            sandbox_id, config.pod, config.attempt, True, self._clock(), ips=("10.88.0.2",)
        )
        self.configs[sandbox_id] = config
        return sandbox_id

    async def stop_sandbox(self, sandbox_id):
        self._note("stop_sandbox", sandbox_id)
        if sandbox_id in self.sandboxes:
            self.kill_sandbox(sandbox_id)

    async def remove_sandbox(self, sandbox_id):
        self._note("remove_sandbox", sandbox_id)
        self.sandboxes.pop(sandbox_id, None)

    async def create_container(self, sandbox_id, config, sandbox):
        self._note("create_container", config.name, config.attempt)
        state = self.sandboxes[sandbox_id]
        taken = {(c.name, c.attempt) for c in state.containers}
        if (config.name, config.attempt) in taken:
            raise ContainerStartError("CreateContainerError", f"name {config.name} is reserved")
        made = ContainerState(
            id=self._new_id(),
            name=config.name,
            attempt=config.attempt,
            phase=ContainerPhase.CREATED,
            image=config.image,
            image_id=f"sha256:{config.image}",
            created_s=self._clock(),
        )
        self.configs[made.id] = config
        self.sandboxes[sandbox_id] = replace(state, containers=(*state.containers, made))
        return made.id

    async def start_container(self, container_id):
        name = self.configs[container_id].name
        self._note("start_container", name)
        if name in self.refuse_start:
            raise ContainerStartError("RunContainerError", "exec: no such file")
        self.change(container_id, phase=ContainerPhase.RUNNING, started_s=self._clock())

    async def stop_container(self, container_id, grace_s):
        self._note("stop_container", container_id, grace_s)
        self.change(
            container_id,
            phase=ContainerPhase.EXITED,
            exit_code=143,
            finished_s=self._clock(),
        )

    async def remove_container(self, container_id):
        self._note("remove_container", container_id)
        for sandbox in list(self.sandboxes.values()):
            left = tuple(c for c in sandbox.containers if c.id != container_id)
            self.sandboxes[sandbox.id] = replace(sandbox, containers=left)

    async def exec_url(self, container_id, command, pipes):
        self._note("exec", container_id, tuple(command), pipes)
        return self.streaming_url

    async def attach_url(self, container_id, pipes):
        self._note("attach", container_id, pipes)
        return self.streaming_url

    async def port_forward_url(self, sandbox_id, ports):
        self._note("port_forward", sandbox_id, tuple(ports))
        return self.streaming_url

    async def image(self, reference):
        if self.down:
            raise RuntimeUnavailableError("connection refused")
        return self._images.get(reference)

    async def pull(self, reference, auth=None):
        self._note("pull", reference)
        self.auths.append(auth)
        if self.pull_gate is not None:
            await self.pull_gate.wait()
        if reference not in self.registry:
            raise ContainerStartError("ErrImagePull", f"dial tcp: lookup {reference}: no such host")
        self._images[reference] = self.registry[reference]
        return self.registry[reference]

    async def images(self):
        return list(self._images.values())

    async def close(self):
        pass

    async def usages(self):
        if self.down:
            raise RuntimeUnavailableError("connection refused")
        running = {
            c.id
            for s in self.sandboxes.values()
            for c in s.containers
            if c.phase is ContainerPhase.RUNNING
        }
        return [u for u in self.usage.values() if u.id in running] + [
            ContainerUsage(id=i, time_s=self._clock()) for i in running - self.usage.keys()
        ]

    async def image_filesystem(self):
        if self.down:
            raise RuntimeUnavailableError("connection refused")
        return self.image_fs

    def daemon_pid(self):
        return 0

    async def used_images(self):
        if self.down:
            raise RuntimeUnavailableError("connection refused")
        return {c.image for s in self.sandboxes.values() for c in s.containers}

    async def remove_image(self, image_id):
        self._note("remove_image", image_id)
        gone = [name for name, image in self._images.items() if image.id == image_id]
        for name in gone:
            del self._images[name]

    async def reopen_log(self, container_id):
        self._note("reopen_log", container_id)

    async def health(self):
        if self.down:
            raise RuntimeUnavailableError("connection refused")
        return self.healthy
