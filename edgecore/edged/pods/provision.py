"""What a pod is given by its node: admission, sandbox, environment of services, container; the facts behind each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from edgecore.edged.cgroups.drivers import PodCgroups, file_cgroups, slice_cgroups
from edgecore.edged.cgroups.slices import SliceTree
from edgecore.edged.cgroups.tree import CgroupTree, container_settings, huge_page_sizes
from edgecore.edged.containers.containerconfig import NodeFacts, container_config, sandbox_config
from edgecore.edged.containers.network import Names, resolver
from edgecore.edged.containers.security import needs_image_user
from edgecore.edged.containers.services import Service, service_variables
from edgecore.edged.runtime import (
    ContainerConfig,
    ContainerRuntime,
    ContainerStartError,
    Mount,
    RuntimeFeatures,
    SandboxConfig,
)
from edgecore.edged.spec.podspec import Container, Pod
from edgecore.edged.spec.refusals import Abilities, Refusal, admission_refusal
from edgecore.edged.spec.resources import node_limits
from edgecore.edged.stats.cgroups import read_memory
from edgecore.edged.stats.machine import cpu_count
from edgecore.edged.thresholds import Observation
from edgecore.records import RecordStore, StoredObject
from edgecore.settings import PodSettings
from synccore.messages import ObjectKey

logger = logging.getLogger(__name__)

APP_ARMOR = Path("/sys/module/apparmor/parameters/enabled")
NODE_HOSTS = Path("/etc/hosts")
# Reason and sentence of something a pod should be told of.
Tell = Callable[[str, str], None]


class _RuntimeClass(msgspec.Struct):
    handler: str


class Provision:
    """One node's answers to what its pods ask for."""

    def __init__(
        self,
        settings: PodSettings,
        store: RecordStore,
        runtime: ContainerRuntime,
        memory_capacity_bytes: int,
        resources: Collection[str] = (),
    ) -> None:
        self._settings, self._store, self._runtime = settings, store, runtime
        self._memory_capacity_bytes, self._resources = memory_capacity_bytes, resources
        self._features: RuntimeFeatures | None = None
        self._cgroups: PodCgroups | None = None  # None also where none are kept
        self._cgroups_chosen = False

    async def refusal(self, pod: Pod) -> Refusal | None:
        """Return why `pod` cannot run on this node, or None. Raises: RuntimeUnavailableError."""
        abilities = Abilities(
            unsafe_sysctls=self._settings.allowed_unsafe_sysctls,
            app_armor=await asyncio.to_thread(_app_armor),
            group_policy=(await self._runtime_features()).group_policy,
            pod_cgroups=await self._pod_cgroups() is not None,
            resources=self._resources,
        )
        return admission_refusal(pod, abilities)

    async def sandbox(self, pod: Pod, attempt: int, tell: Tell | None = None) -> SandboxConfig:
        """Return the sandbox of `pod`; with `tell`, what is amiss with its resolver is told.

        Raises:  ContainerStartError: CreatePodSandboxError.
        """
        node = await asyncio.to_thread(self._facts)
        found, warnings = resolver(pod, node.names)
        for reason, message in warnings.items() if tell else ():
            if tell is not None:
                tell(reason, message)
        return sandbox_config(
            pod,
            attempt,
            node,
            resolver=found,
            handler=await self._handler(pod.spec.runtime_class_name),
            cgroup_parent=await self._cgroup_parent(pod),
        )

    async def make_cgroup(self, pod: Pod) -> None:
        """Have the cgroup of `pod`, with its limits. Raises: ContainerStartError: CreatePodSandboxError."""
        if (cgroups := await self._pod_cgroups()) is None:
            return
        try:
            await asyncio.to_thread(cgroups.ensure, pod, self._settings.pids_limit)
        except OSError as exc:
            raise ContainerStartError(
                "CreatePodSandboxError",
                "unable to ensure pod container exists: failed to create container for "
                f"{cgroups.parent(pod)}: {exc}",
            ) from exc

    async def remove_cgroup(self, uid: str) -> None:
        """Remove the cgroup of a pod of which nothing runs any more."""
        if (cgroups := await self._pod_cgroups()) is not None:
            await asyncio.to_thread(cgroups.remove, uid)

    async def memory_of_pods(self) -> Observation | None:
        """Return how much memory there is for all pods together, and how much of it is left; None: no limit is kept.

        Raises:  RuntimeUnavailableError.
        """
        if (cgroups := await self._pod_cgroups()) is None:
            return None
        memory = await asyncio.to_thread(read_memory, cgroups.memory_folder)
        if memory is None or memory.limit_bytes is None or memory.available_bytes is None:
            return None
        return Observation(memory.available_bytes, memory.limit_bytes)

    async def service_variables(self, pod: Pod) -> dict[str, str]:
        """Return the variables of the services that `pod` is told of."""
        services = [s for o in await self._store.list("Service") if (s := _service(o)) is not None]
        namespace, linked = pod.metadata.namespace, pod.spec.enable_service_links
        return service_variables(services, namespace, linked=linked)

    async def mounts_recursively_read_only(self, pod: Pod) -> bool:
        """Return whether the handler that runs `pod` can do so. Raises: ContainerStartError: it has none."""
        handler = await self._handler(pod.spec.runtime_class_name)
        return handler in (await self._runtime_features()).recursive_read_only

    async def container(
        self,
        pod: Pod,
        container: Container,
        attempt: int,
        env: Sequence[tuple[str, str]],
        mounts: Sequence[Mount],
    ) -> ContainerConfig:
        """Return the configuration of one attempt of `container`. Raises: ContainerStartError."""
        user = None
        if needs_image_user(pod, container):
            image = await self._runtime.image(container.image)
            user = image.user if image is not None else None
        node = await asyncio.to_thread(self._facts)
        return container_config(
            pod, container, attempt, env=env, mounts=mounts, node=node, image_user=user
        )

    @property
    def cluster_domain(self) -> str:
        """Return the domain behind names of services."""
        return self._settings.cluster_domain

    def _facts(self) -> NodeFacts:
        """Return the node's facts as they are now; blocks."""
        settings = self._settings
        return NodeFacts(
            log_root=settings.log_dir,
            seccomp_dir=settings.seccomp_dir,
            memory_capacity_bytes=self._memory_capacity_bytes,
            huge_page_sizes=huge_page_sizes(),
            cgroup_settings=container_settings(),
            names=Names(
                settings.cluster_dns,
                settings.cluster_domain,
                _text(settings.resolv_conf),
                has_dns=settings.cluster_has_dns,
            ),
        )

    async def _handler(self, class_name: str) -> str:
        """Return the runtime's name for the RuntimeClass `class_name`."""
        if not class_name:
            return ""
        stored = await self._store.get(ObjectKey("RuntimeClass", "", class_name))
        problem = f'runtimeclass.node.k8s.io "{class_name}" not found'
        if stored is not None:
            try:
                return msgspec.json.decode(stored.body, type=_RuntimeClass).handler
            except msgspec.DecodeError as exc:
                problem = f"failed to lookup RuntimeClass {class_name}: {exc}"
        raise ContainerStartError("CreatePodSandboxError", problem)

    async def _cgroup_parent(self, pod: Pod) -> str:
        cgroups = await self._pod_cgroups()
        return "" if cgroups is None else cgroups.parent(pod)

    async def _pod_cgroups(self) -> PodCgroups | None:
        """Return who keeps the pods' cgroups, None if pods get none here; found out once."""
        if not self._cgroups_chosen:
            features = await self._runtime_features()
            self._cgroups = await asyncio.to_thread(self._choose_cgroups, features)
            self._cgroups_chosen = True
        return self._cgroups

    def _choose_cgroups(self, features: RuntimeFeatures) -> PodCgroups | None:
        root, driver = self._settings.cgroup_root, self._settings.cgroup_driver
        if root == "none" or self._runtime.name == "process":
            return None
        if driver == "systemd" or (driver == "auto" and features.systemd_cgroups):
            return self._limited(slice_cgroups(root, SliceTree()))
        tree = CgroupTree()
        if problem := tree.problem(root):
            logger.warning("no cgroups for pods, their limits as a whole are not kept: %s", problem)
            return None
        return self._limited(file_cgroups(root, tree))

    def _limited(self, cgroups: PodCgroups) -> PodCgroups:
        """Return `cgroups`, which keep all pods together out of what is reserved."""
        reserved = (self._settings.system_reserved, self._settings.kube_reserved)
        try:
            cgroups.limit_all(node_limits(cpu_count(), self._memory_capacity_bytes, reserved))
        except OSError as exc:
            logger.warning("no limit for all pods together: %s", exc)
        return cgroups

    async def _runtime_features(self) -> RuntimeFeatures:
        if self._features is None:
            self._features = await self._runtime.features()
        return self._features


def node_hosts() -> str:
    """Return the node's own /etc/hosts; blocks."""
    return _text(str(NODE_HOSTS))


def _service(stored: StoredObject) -> Service | None:
    try:
        return msgspec.json.decode(stored.body, type=Service)
    except msgspec.DecodeError as exc:
        logger.debug("%s does not decode: %s", stored.key, exc)
        return None


def _app_armor() -> bool:
    return _text(str(APP_ARMOR)).startswith("Y")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="surrogateescape")
    except OSError:
        return ""
