"""A container's environment, command and arguments, resolved as kubelet does; pure: the caller brings the objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from edgecore.edged.runtime import ContainerStartError
from edgecore.edged.spec.podspec import Container, EnvFrom, EnvVar, Pod, ResourceFieldRef
from edgecore.edged.spec.quantity import ceil_of, parse_quantity
from edgecore.edged.spec.resources import amount

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_REFERENCE = re.compile(r"\$\$|\$\(([^)]*)\)")
# ConfigMaps and Secrets are 1 MiB each; the kernel refuses a longer environment anyway.
MAX_ENVIRONMENT_BYTES = 2 << 20


@dataclass(frozen=True)
class PodFacts:
    """What a pod can ask about itself and its node.

    Shapes:  allocatable: resource name -> amount, the default of a limit that is not set.
    """

    node_name: str
    host_ips: Sequence[str]
    pod_ips: Sequence[str]
    allocatable: Mapping[str, Decimal]


class MissingObjectError(ContainerStartError):
    """A ConfigMap, Secret or key that is not there (yet)."""

    def __init__(self, message: str) -> None:
        super().__init__("CreateContainerConfigError", message)


# (kind, name) -> its keys, None if it is not here.
Lookup = Callable[[str, str], Mapping[str, bytes] | None]


def resolve_environment(
    pod: Pod, container: Container, lookup: Lookup, facts: PodFacts
) -> list[tuple[str, str]]:
    """Return the environment of `container`, later definitions over earlier ones.

    Raises:  ContainerStartError: CreateContainerConfigError with kubelet's message.
    """
    env: dict[str, str] = {}
    for source in container.env_from:
        env.update(_all_keys(source, lookup))
    for variable in container.env:
        value = _value(pod, container, variable, env, lookup, facts)
        if value is not None:
            env[variable.name] = value
    for name, value in env.items():
        if "\0" in value or not name or "=" in name or "\0" in name:
            raise MissingObjectError(f"environment variable {name!r} has no valid name or value")
    total = sum(len(k) + len(v) for k, v in env.items())
    if total > MAX_ENVIRONMENT_BYTES:
        raise MissingObjectError(
            f"environment of {total} bytes is over the limit of {MAX_ENVIRONMENT_BYTES}"
        )
    return list(env.items())


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value; an unknown name stays as it is, `$$` is a dollar sign."""

    def replacement(match: re.Match[str]) -> str:
        return "$" if match[1] is None else env.get(match[1], match[0])

    return _REFERENCE.sub(replacement, text)


def missing_names(text: str, env: Mapping[str, str]) -> list[str]:
    """Return the names that `text` refers to and `env` has not."""
    names = [match[1] for match in _REFERENCE.finditer(text) if match[1] is not None]
    return [name for name in names if name not in env]


def pod_field(pod: Pod, path: str, facts: PodFacts) -> str:
    """Return the field at `path`.

    Raises:  ContainerStartError: no such field can be asked for.
    """
    meta = pod.metadata
    if match := _SUBSCRIPT.fullmatch(path):
        return (meta.labels if match[1] == "labels" else meta.annotations).get(match[2], "")
    fields: dict[str, Callable[[], str]] = {
        "metadata.name": lambda: meta.name,
        "metadata.namespace": lambda: meta.namespace,
        "metadata.uid": lambda: meta.uid,
        "metadata.labels": lambda: _lines(meta.labels),
        "metadata.annotations": lambda: _lines(meta.annotations),
        "spec.nodeName": lambda: facts.node_name,
        "spec.serviceAccountName": lambda: pod.spec.service_account_name,
        "status.hostIP": lambda: "".join(facts.host_ips[:1]),
        "status.hostIPs": lambda: ",".join(facts.host_ips),
        "status.podIP": lambda: "".join(facts.pod_ips[:1]),
        "status.podIPs": lambda: ",".join(facts.pod_ips),
    }
    if path not in fields:
        raise MissingObjectError(f"unsupported fieldPath: {path}")
    return fields[path]()


def resource_field(pod: Pod, default_container: str, ref: ResourceFieldRef, facts: PodFacts) -> str:
    """Return a request or limit as a whole number of `ref.divisor`, rounded up."""
    name = ref.container_name or default_container
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    container = next((c for c in containers if c.name == name), None)
    kind, _, resource = ref.resource.partition(".")
    if container is None or kind not in ("limits", "requests"):
        raise MissingObjectError(f"unsupported resource {ref.resource!r} of container {name!r}")
    value = amount(container, kind, resource)
    if not value and kind == "limits":  # no limit means the whole node
        value = facts.allocatable.get(resource, Decimal(0))
    try:
        divisor = parse_quantity(ref.divisor) or Decimal(1)
    except ValueError as exc:
        raise MissingObjectError(str(exc)) from exc
    return str(ceil_of(value / divisor))


def _lines(mapping: Mapping[str, str]) -> str:
    """Return `key="value"` lines, sorted, as the downward API writes maps."""
    return "\n".join(f"{k}={_quoted(v)}" for k, v in sorted(mapping.items()))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r") + '"'


def _all_keys(source: EnvFrom, lookup: Lookup) -> dict[str, str]:
    kind, ref = "ConfigMap", source.config_map_ref
    if ref is None:
        kind, ref = "Secret", source.secret_ref
    if ref is None:
        return {}
    content = lookup(kind, ref.name)
    if content is None:
        if ref.optional:
            return {}
        raise MissingObjectError(f'{kind.lower()} "{ref.name}" not found')
    return {
        source.prefix + key: value.decode(errors="replace")
        for key, value in content.items()
        if "=" not in key
    }


def _value(
    pod: Pod,
    container: Container,
    variable: EnvVar,
    env: Mapping[str, str],
    lookup: Lookup,
    facts: PodFacts,
) -> str | None:
    source = variable.value_from
    if source is None:
        return expand(variable.value, env)
    if source.field_ref is not None:
        return pod_field(pod, source.field_ref.field_path, facts)
    if source.resource_field_ref is not None:
        return resource_field(pod, container.name, source.resource_field_ref, facts)
    kind, ref = "ConfigMap", source.config_map_key_ref
    if ref is None:
        kind, ref = "Secret", source.secret_key_ref
    if ref is None:
        raise MissingObjectError(f"environment variable {variable.name!r} has an unserved source")
    content = lookup(kind, ref.name)
    if content is not None and ref.key in content:
        return content[ref.key].decode(errors="replace")
    if ref.optional:
        return None
    if content is None:
        raise MissingObjectError(f'{kind.lower()} "{ref.name}" not found')
    raise MissingObjectError(
        f"couldn't find key {ref.key} in {kind} {pod.metadata.namespace}/{ref.name}"
    )
