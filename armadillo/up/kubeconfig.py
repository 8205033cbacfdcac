"""Kubeconfig files: written with everything embedded, and a user's own checked before it is trusted."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import yaml

from armadillo.valueclient import extension
from corekit.errors import ConfigError
from corekit.pki import KeyPair
from corekit.yamltext import YamlError, parse_yaml

CONTEXT = "armadillo"
# The largest real ones, with dozens of clusters, stay far below.
MAX_KUBECONFIG_BYTES = 1 << 20


def write_kubeconfig(
    path: Path,
    *,
    server: str,
    ca_file: Path,
    client: KeyPair,
    values: tuple[str, str] | None = None,
) -> None:
    """Write a kubeconfig for `server` to `path`, readable by its owner only.

    Shapes:  values: host:port of cloudcore's value stream for certificates and for tokens, as `kubectl edge` reads it.

    Everything is embedded, so the file works from any folder and can be copied.
    """
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": CONTEXT,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _embedded(ca_file),
                    **({"extensions": extension(*values)} if values else {}),
                },
            }
        ],
        "users": [
            {
                "name": CONTEXT,
                "user": {
                    "client-certificate-data": _embedded(client.cert_file),
                    "client-key-data": _embedded(client.key_file),
                },
            }
        ],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
        "current-context": CONTEXT,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        yaml.safe_dump(document, out, sort_keys=False)
    part.replace(path)  # a kubectl that runs meanwhile sees the old or the new one, never half


def check_kubeconfig(path: Path) -> Path:
    """Return the absolute path of a user's kubeconfig that can be read and names a cluster.

    Raises:  ConfigError: one line that says what is wrong with it.
    """
    source = f"--kubeconfig {path}"
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ConfigError(source, "", f"cannot be read: {exc.strerror}") from exc
    if len(content) > MAX_KUBECONFIG_BYTES:
        raise ConfigError(source, "", f"larger than {MAX_KUBECONFIG_BYTES} bytes")
    try:
        tree = parse_yaml(content)
    except YamlError as exc:
        raise ConfigError(source, "", str(exc)) from exc
    _require_current_context(source, tree)
    return path.absolute()


def _require_current_context(source: str, tree: Any) -> None:
    if not isinstance(tree, dict) or tree.get("kind") != "Config":
        raise ConfigError(source, "", "is not a kubeconfig (kind: Config)")
    current = tree.get("current-context")
    context = _named(tree, "contexts", current)
    if not current or context is None:
        raise ConfigError(source, "current-context", f"{current!r} is not one of its contexts")
    inner = context.get("context")
    cluster = inner.get("cluster") if isinstance(inner, dict) else None
    if _named(tree, "clusters", cluster) is None:
        raise ConfigError(source, f"contexts.{current}.cluster", f"{cluster!r} is not there")


def _named(tree: dict[str, Any], section: str, name: object) -> dict[str, Any] | None:
    entries = tree.get(section)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry
    return None


def _embedded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
