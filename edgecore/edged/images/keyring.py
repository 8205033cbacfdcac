"""Credentials for registries out of a pod's pull secrets, and which of them fit an image; pure."""

from __future__ import annotations

import base64
import binascii
import fnmatch
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from edgecore.edged.runtime import RegistryAuth

DOCKER_HUB = "docker.io"
# Keys of Secrets of type kubernetes.io/dockerconfigjson and of the older kubernetes.io/dockercfg.
CONFIG_JSON, CONFIG = ".dockerconfigjson", ".dockercfg"
# What docker itself calls its hub in such files.
_HUB_NAMES = frozenset({"index.docker.io", "registry-1.docker.io", DOCKER_HUB})


class _Entry(msgspec.Struct):
    username: str = ""
    password: str = ""
    auth: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _ConfigJson(msgspec.Struct):
    auths: dict[str, _Entry] = {}


@dataclass(frozen=True, slots=True)
class Credential:
    """One line of such a file.

    Shapes:  host: may hold globs (`*.example.com`), with its port if it names one. path: prefix, "" for all.
    """

    host: str
    path: str
    auth: RegistryAuth


def credentials_in(secrets: Iterable[Mapping[str, bytes]]) -> list[Credential]:
    """Return every credential in `secrets`, the most specific first; what does not parse is left out.

    Shapes:  secrets: key -> content of each pull secret.
    """
    found: list[Credential] = []
    for content in secrets:
        found += [_credential(server, entry) for server, entry in _entries(content).items()]
    return sorted(found, key=lambda c: (c.path, c.host), reverse=True)


def auths_for(image: str, credentials: Iterable[Credential]) -> list[RegistryAuth]:
    """Return what may be tried for `image`, in order, each once."""
    host, path = split_image(image)
    fitting = (c.auth for c in credentials if _fits(c, host, path))
    return list(dict.fromkeys(fitting))


def split_image(image: str) -> tuple[str, str]:
    """Return the registry and the repository of an image reference."""
    name = image.split("@", 1)[0]
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = DOCKER_HUB, name if slash else f"library/{name}"
    host = DOCKER_HUB if first in _HUB_NAMES else first
    folder, slash, last = rest.rpartition("/")
    return host, f"{folder}{slash}{last.split(':', 1)[0]}"


def _entries(content: Mapping[str, bytes]) -> dict[str, _Entry]:
    """Return server -> entry of both forms of such a Secret."""
    entries: dict[str, _Entry] = {}
    with suppress(msgspec.DecodeError):
        entries |= msgspec.json.decode(content.get(CONFIG, b"{}"), type=dict[str, _Entry])
    with suppress(msgspec.DecodeError):
        entries |= msgspec.json.decode(content.get(CONFIG_JSON, b"{}"), type=_ConfigJson).auths
    return entries


def full_name(image: str) -> str:
    """Return an image reference as runtimes list it: with its registry, and a tag or digest."""
    host, path = split_image(image)
    name, at, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return f"{host}/{path}{at}{digest}" if at else f"{host}/{path}:{tag or 'latest'}"


def matches(pattern: str, image: str) -> bool:
    """Return whether `pattern` is for `image`, by kubelet's rule for credential providers.

    Globs stand for (parts of) one label of the host; the port must be the same; the path is a prefix, letter by letter.
    """
    wanted_host, prefix = _split_server(pattern)
    host, path = split_image(image)
    wanted, _, wanted_port = wanted_host.partition(":")
    name, _, port = host.partition(":")
    return wanted_port == port and path.startswith(prefix) and _labels_fit(wanted, name)


def _split_server(server: str) -> tuple[str, str]:
    """Return host and path of what a credential is for."""
    bare = server.partition("://")[2] or server
    host, _, path = bare.partition("/")
    # Docker writes its API's version behind the host: it is no part of an image's name.
    path = "" if path.strip("/") in ("v1", "v2") else path
    return DOCKER_HUB if host in _HUB_NAMES else host, path


def _credential(server: str, entry: _Entry) -> Credential:
    host, path = _split_server(server)
    username, password = entry.username, entry.password
    if entry.auth:
        username, password = _decoded(entry.auth) or (username, password)
    auth = RegistryAuth(
        username=username,
        password=password,
        identity_token=entry.identitytoken,
        registry_token=entry.registrytoken,
    )
    return Credential(host, path.strip("/"), auth)


def _decoded(auth: str) -> tuple[str, str] | None:
    try:
        text = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    username, colon, password = text.partition(":")
    return (username, password.strip("\0")) if colon else None


def _fits(credential: Credential, host: str, path: str) -> bool:
    if credential.path and not f"{path}/".startswith(f"{credential.path}/"):
        return False
    wanted_host, _, wanted_port = credential.host.partition(":")
    name, _, port = host.partition(":")
    if wanted_port and wanted_port != port:
        return False
    return _labels_fit(wanted_host, name)


def _labels_fit(pattern: str, name: str) -> bool:
    wanted, parts = pattern.split("."), name.split(".")
    # A glob stands for one label: `*.example.com` is not for `a.b.example.com`.
    return len(wanted) == len(parts) and all(
        fnmatch.fnmatchcase(part, glob) for part, glob in zip(parts, wanted, strict=True)
    )
