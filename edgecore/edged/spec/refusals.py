"""Why a pod, or one of its containers, cannot run on this node as its spec asks; pure. Reasons are kubelet's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgecore.edged.spec.podspec import AppArmorProfile, Container, Pod
from edgecore.edged.spec.quantity import parse_quantity
from edgecore.edged.spec.sysctls import forbidden

APP_ARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
# Resources that every Linux node counts; any other is a device that some plugin would have to offer.
_NATIVE = ("cpu", "memory", "ephemeral-storage", "storage", "pods")


@dataclass(frozen=True)
class Refusal:
    """Why a pod is not admitted: the `reason` of its status and the sentence behind it."""

    reason: str
    message: str


@dataclass(frozen=True)
class Abilities:
    """What this node can enforce.

    Shapes:  unsafe_sysctls: as in the setting. app_armor: the kernel enforces profiles. group_policy: the runtime
             knows `supplementalGroupsPolicy`. pod_cgroups: a pod has a cgroup of its own.
    """

    unsafe_sysctls: Sequence[str] = ()
    app_armor: bool = False
    group_policy: bool = False
    pod_cgroups: bool = False


def admission_refusal(pod: Pod, node: Abilities) -> Refusal | None:
    """Return why `pod` must be rejected before anything of it runs, or None."""
    return next(_refusals(pod, node), None)


def container_refusal(container: Container) -> str:
    """Return why `container` cannot be created, or "" (the reason is CreateContainerConfigError)."""
    if container.volume_devices:
        return "volumeDevices: raw block volumes are not supported by this node"
    if container.security_context.proc_mount == "Unmasked":
        return "procMount: Unmasked needs hostUsers: false, which is not supported by this node"
    return ""


def app_armor_profile(pod: Pod, container: Container) -> AppArmorProfile | None:
    """Return the AppArmor profile of `container`: its own, the pod's, or that of the old annotation."""
    own = (
        container.security_context.app_armor_profile or pod.spec.security_context.app_armor_profile
    )
    if own is not None:
        return own
    kind, _, name = pod.metadata.annotations.get(
        APP_ARMOR_ANNOTATION + container.name, ""
    ).partition("/")
    if kind == "localhost":
        return AppArmorProfile(type="Localhost", localhost_profile=name)
    return {
        "runtime": AppArmorProfile(type="RuntimeDefault"),
        "unconfined": AppArmorProfile(type="Unconfined"),
    }.get(kind)


def _refusals(pod: Pod, node: Abilities) -> Iterator[Refusal]:
    spec = pod.spec
    for sysctl in spec.security_context.sysctls:
        problem = forbidden(
            sysctl.name,
            node.unsafe_sysctls,
            host_network=spec.host_network,
            host_ipc=spec.host_ipc,
        )
        if problem:
            yield Refusal("SysctlForbidden", f"forbidden sysctl: {problem}")
    if not node.app_armor and any(map(_enforces, _profiles(pod))):
        message = "Cannot enforce AppArmor: AppArmor is not enabled on the host"
        yield Refusal("AppArmor", message)
    if spec.security_context.supplemental_groups_policy == "Strict" and not node.group_policy:
        message = "SupplementalGroupsPolicy=Strict is not supported in this node"
        yield Refusal("SupplementalGroupsPolicyNotSupported", message)
    if (spec.resources.limits or spec.resources.requests) and not node.pod_cgroups:
        message = "resources of the whole pod need pod cgroups, which this node does not keep"
        yield Refusal("PodLevelResourcesNotSupported", message)
    yield from _unsupported_features(pod)
    yield from _missing_devices(pod)


def _unsupported_features(pod: Pod) -> Iterator[Refusal]:
    spec = pod.spec
    containers = _containers(pod)
    features = {
        "hostUsers: false (a user namespace)": not spec.host_users,
        "resourceClaims (dynamic resource allocation)": bool(spec.resource_claims)
        or bool(spec.resources.claims)
        or any(c.resources.claims for c in containers),
    }
    for feature, asked in features.items():
        if asked:
            yield Refusal("PodFeatureUnsupported", f"{feature} is not supported by this node")


def _missing_devices(pod: Pod) -> Iterator[Refusal]:
    for container in _containers(pod):
        for name, amount in container.resources.limits.items():
            if name in _NATIVE or name.startswith("hugepages-") or not parse_quantity(amount):
                continue
            yield Refusal(
                "UnexpectedAdmissionError",
                "Allocate failed due to requested number of devices unavailable for "
                f"{name}. Requested: {amount}, Available: 0, which is unexpected",
            )


def _profiles(pod: Pod) -> Iterator[AppArmorProfile | None]:
    return (app_armor_profile(pod, container) for container in _containers(pod))


def _enforces(profile: AppArmorProfile | None) -> bool:
    return profile is not None and profile.type != "Unconfined"


def _containers(pod: Pod) -> tuple[Container, ...]:
    return pod.spec.every_container
