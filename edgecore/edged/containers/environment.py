"""A container's environment, command and arguments, resolved as kubelet does; pure: the caller brings the objects."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgecore.edged.containers.downward import PodFacts, pod_field, resource_field
from edgecore.edged.containers.errors import MissingObjectError
from edgecore.edged.containers.expansion import (
    MAX_STRING_BYTES,
    ExpansionTooLongError,
    expand,
    missing_names,
)
from edgecore.edged.spec.podspec import Container, EnvFrom, EnvVar, Pod

__all__ = [
    "Environment",
    "Lookup",
    "MissingObjectError",
    "PodFacts",
    "check_exec",
    "expand",
    "missing_names",
    "pod_field",
    "resolve_environment",
    "resource_field",
]

# The kernel gives arguments and environment a quarter of the stack's limit, 8 MiB as a rule; the rest is for what the
# image and the runtime add.
MAX_EXEC_BYTES = (2 << 20) - (128 << 10)
POINTER_BYTES = 8  # each string costs one beside its bytes
SHOWN_CHARS = 256  # of a name in a message

# (kind, name) -> its keys, None if it is not here.
Lookup = Callable[[str, str], Mapping[str, bytes] | None]


@dataclass(frozen=True)
class Environment:
    """A container's environment.

    Shapes:  variables: name, value. skipped: sentences about keys that are no names of variables.
    """

    variables: Sequence[tuple[str, str]]
    skipped: Sequence[str] = ()


def resolve_environment(
    pod: Pod,
    container: Container,
    lookup: Lookup,
    facts: PodFacts,
    services: Mapping[str, str] | None = None,
) -> Environment:
    """Return the environment of `container`, later definitions over earlier ones.

    Shapes:  services: the variables of services; they give way to all others, which may refer to them.
    Raises:  ContainerStartError: CreateContainerConfigError with kubelet's message.
    """
    own: dict[str, str] = {}
    skipped: list[str] = []
    for source in container.env_from:
        own.update(_all_keys(pod, source, lookup, skipped))
    known = ChainMap(own, dict(services or {}))
    left = MAX_EXEC_BYTES
    for variable in container.env:
        try:
            value = _value(pod, container, variable, known, lookup, facts)
        except ExpansionTooLongError as exc:
            raise MissingObjectError(f"{_shown(variable.name)} is {exc}") from exc
        if value is None:
            continue
        if not variable.name or "=" in variable.name or "\0" in variable.name + value:
            raise MissingObjectError(f"{_shown(variable.name)} has no valid name or value")
        own[variable.name] = value
        left -= len(value)
        if left < 0:  # while it grows: nobody must be able to fill the agent's memory
            raise MissingObjectError(f"environment is over the limit of {MAX_EXEC_BYTES} bytes")
    rest = [(name, value) for name, value in known.items() if name not in own]
    return Environment([*own.items(), *rest], skipped)


def check_exec(variables: Iterable[tuple[str, str]], words: Iterable[str]) -> None:
    """Return if the kernel will start a program with this environment and these arguments.

    Raises:  ContainerStartError: CreateContainerConfigError, one clear reason instead of the runtime's E2BIG.
    """
    total = 0
    texts = [(_shown(name), f"{name}={value}") for name, value in variables]
    texts += [(f"argument {number}", word) for number, word in enumerate(words)]
    for what, text in texts:
        if "\0" in text:
            raise MissingObjectError(f"{what} contains a NUL byte")
        length = len(text.encode(errors="surrogatepass")) + 1
        if length > MAX_STRING_BYTES:
            raise MissingObjectError(
                f"{what} of {length - 1} bytes is over the limit of {MAX_STRING_BYTES - 1}"
            )
        total += length + POINTER_BYTES
    if total > MAX_EXEC_BYTES:
        raise MissingObjectError(
            f"environment and arguments of {total} bytes are over the limit of {MAX_EXEC_BYTES}"
        )


def _shown(name: str) -> str:
    return f"environment variable {name[:SHOWN_CHARS]!r}"


def _all_keys(pod: Pod, source: EnvFrom, lookup: Lookup, skipped: list[str]) -> dict[str, str]:
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
    bad = sorted(key for key in content if not _is_name(source.prefix + key))
    if bad:
        what = "configMap" if kind == "ConfigMap" else "secret"
        skipped.append(
            f"Keys [{', '.join(bad)}] from the EnvFrom {what} {pod.metadata.namespace}/{ref.name} were skipped "
            "since they are considered invalid environment variable names."
        )
    return {
        source.prefix + key: value.decode(errors="replace")
        for key, value in sorted(content.items())
        if key not in bad
    }


def _is_name(name: str) -> bool:
    """Return whether Kubernetes takes `name` for a variable's: printable ASCII without an equals sign."""
    return bool(name) and "=" not in name and all(" " <= char <= "~" for char in name)


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
