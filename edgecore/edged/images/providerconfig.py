"""Which programs give credentials for registries: kubelet's CredentialProviderConfig, read and checked; blocks.

Source:  kubelet.config.k8s.io/v1 CredentialProviderConfig; the older versions look the same.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from corekit.errors import SETTINGS, ConfigError
from corekit.yamltext import YamlError, parse_yaml

MAX_CONFIG_BYTES = 1 << 20  # a page of text; anything larger is the wrong file
CONFIG_VERSIONS = tuple(f"kubelet.config.k8s.io/{v}" for v in ("v1", "v1beta1", "v1alpha1"))
EXEC_VERSIONS = tuple(
    f"credentialprovider.kubelet.k8s.io/{v}" for v in ("v1", "v1beta1", "v1alpha1")
)
_CONFIG_KEY = "pods.image_credential_provider_config"
_FOLDER_KEY = "pods.image_credential_provider_bin_dir"
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_DURATION = re.compile(rf"(?:{_PART.pattern})+|0", re.ASCII)
# A host with globs, a port without, a path without spaces.
_PATTERN = re.compile(r"[^\s/:]+(:\d{1,5})?(/\S*)?", re.ASCII)


class EnvVar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variable that a program is given beside the agent's own."""

    name: str
    value: str


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One program: for which images it is asked, and how.

    Shapes:  match_images: patterns, see `keyring.matches`. default_cache_duration: as Go writes one, such as 1h30m.
    """

    name: str
    match_images: tuple[str, ...]
    default_cache_duration: str
    api_version: str
    args: tuple[str, ...] | None = None
    env: tuple[EnvVar, ...] | None = None

    @property
    def default_keep_s(self) -> float:
        """Return how long an answer is kept that does not say so itself."""
        return parse_duration(self.default_cache_duration)


class _Document(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    api_version: str
    kind: str
    providers: tuple[Provider, ...]


def read_providers(config: Path, folder: Path) -> tuple[Provider, ...]:
    """Return the providers of the file `config`, whose programs lie in `folder`.

    Raises:  ConfigError: naming file and key; also if a program is not there, or not within the folder.
    """
    try:
        content = config.read_bytes()
    except OSError as exc:
        raise ConfigError(SETTINGS, _CONFIG_KEY, f"{config}: {exc.strerror}") from exc
    if not folder.is_dir():
        raise ConfigError(SETTINGS, _FOLDER_KEY, f"{folder}: is no folder")
    found = parse_providers(str(config), content)
    for number, provider in enumerate(found):
        if problem := _program_problem(folder, provider.name):
            raise ConfigError(str(config), f"providers[{number}].name", problem)
    return found


def parse_providers(source: str, content: bytes) -> tuple[Provider, ...]:
    """Return the providers that a CredentialProviderConfig names. Raises: ConfigError, with `source`."""
    if len(content) > MAX_CONFIG_BYTES:
        raise ConfigError(source, "", f"larger than {MAX_CONFIG_BYTES} bytes")
    try:
        document = msgspec.convert(parse_yaml(content), _Document)
    except YamlError as exc:
        raise ConfigError(source, "", str(exc)) from exc
    except msgspec.ValidationError as exc:
        problem, _, where = str(exc).partition(" - at `$")
        raise ConfigError(source, where.strip("`.") or "document", problem) from exc
    if document.kind != "CredentialProviderConfig":
        problem = f"{document.kind!r} is not CredentialProviderConfig"
        raise ConfigError(source, "kind", problem)
    if document.api_version not in CONFIG_VERSIONS:
        raise ConfigError(source, "apiVersion", _unlisted(document.api_version, CONFIG_VERSIONS))
    if not document.providers:
        raise ConfigError(source, "providers", "is empty")
    names: set[str] = set()
    for number, provider in enumerate(document.providers):
        if wrong := _wrong(provider, names):
            key, text = wrong
            raise ConfigError(source, f"providers[{number}].{key}", text)
        names.add(provider.name)
    return document.providers


def parse_duration(text: str) -> float:
    """Return the seconds of a duration as Go writes it: `0`, `90s`, `1h30m`. Raises: ValueError."""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration of 0 or more, such as 10m or 1h30m")
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))


def _wrong(provider: Provider, names: set[str]) -> tuple[str, str] | None:
    """Return key and sentence of what is wrong with `provider`, None if nothing is."""
    name = provider.name
    if not name or name in (".", "..") or re.search(r"[\s/\0]", name):
        return "name", f"{name!r} is not the name of a program in {_FOLDER_KEY}"
    if name in names:
        return "name", f"{name!r} is there twice"
    if provider.api_version not in EXEC_VERSIONS:
        return "apiVersion", _unlisted(provider.api_version, EXEC_VERSIONS)
    if not provider.match_images:
        return "matchImages", "is empty"
    for pattern in provider.match_images:
        if not _PATTERN.fullmatch(pattern):
            return "matchImages", f"{pattern!r} is not a host with or without port and path"
    for variable in provider.env or ():
        if not variable.name or "=" in variable.name or "\0" in variable.name + variable.value:
            return "env", f"{variable.name!r} cannot be the name of a variable"
    try:
        parse_duration(provider.default_cache_duration)
    except ValueError as exc:
        return "defaultCacheDuration", str(exc)
    return None


def _program_problem(folder: Path, name: str) -> str:
    """Return why `name` cannot be run from `folder`, "" if it can."""
    program = folder / name
    # Links are followed before it is judged: elsewhere others may be able to put a program in its place.
    if not program.resolve().is_relative_to(folder.resolve()):
        return f"{program} lies outside {folder}: it is a link to {program.resolve()}"
    if not program.is_file():
        return f"{program}: there is no such program"
    return "" if os.access(program, os.X_OK) else f"{program}: may not be executed"


def _unlisted(value: str, allowed: tuple[str, ...]) -> str:
    return f"{value!r} is not one of {', '.join(allowed)}"
