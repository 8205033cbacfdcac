"""What the user of a kubeconfig shows of himself where kubectl itself is not the caller: a certificate or a token.

Source: client-go's credential plugins, client.authentication.k8s.io/v1 and v1beta1.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from armadillo.kubectl import Json
from corekit.errors import EdgeError

# A plugin may ask its user to log in somewhere.
PLUGIN_TIMEOUT_S = 300.0
VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class CredentialError(EdgeError):
    """The kubeconfig's user has nothing to show, or it cannot be had."""


class Credential(NamedTuple):
    """Either a certificate and its key, as PEM, or a token."""

    cert: bytes = b""
    key: bytes = b""
    token: str = ""


def credential_of(user: Json, cluster: Json) -> Credential:
    """Return what a user shows, as `kubectl config view --raw --flatten` has users and clusters.

    Raises:  CredentialError.
    """
    if cert := user.get("client-certificate-data"):
        return Credential(_bytes(cert), _bytes(user.get("client-key-data", "")))
    if token := user.get("token"):
        return Credential(token=str(token))
    if path := user.get("tokenFile"):
        return Credential(token=_read_token(Path(str(path))))
    if plugin := user.get("exec"):
        return _run_plugin(plugin, cluster)
    raise CredentialError(
        "the kubeconfig's user has no client certificate, token or credential plugin"
    )


def _run_plugin(plugin: Json, cluster: Json) -> Credential:
    command, version = str(plugin.get("command", "")), str(plugin.get("apiVersion", ""))
    if version not in VERSIONS:
        raise CredentialError(f"credential plugin {command}: apiVersion {version!r} is not known")
    spec: Json = {"interactive": sys.stdin is not None and sys.stdin.isatty()}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = {
            name: cluster[name]
            for name in ("server", "tls-server-name", "certificate-authority-data", "proxy-url")
            if name in cluster
        }
    asked = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
    env = {entry["name"]: entry["value"] for entry in plugin.get("env") or []}
    try:
        done = subprocess.run(
            [command, *(plugin.get("args") or [])],
            env={**os.environ, **env, "KUBERNETES_EXEC_INFO": json.dumps(asked)},
            stdout=subprocess.PIPE,  # what it says to its user goes to the terminal
            timeout=PLUGIN_TIMEOUT_S,
            check=False,
        )
    except OSError as exc:
        raise CredentialError(f"credential plugin {command}: {exc.strerror}") from exc
    except subprocess.TimeoutExpired:
        took = f"no answer within {PLUGIN_TIMEOUT_S:.0f} s"
        raise CredentialError(f"credential plugin {command}: {took}") from None
    if done.returncode:
        raise CredentialError(f"credential plugin {command}: ended with status {done.returncode}")
    return _plugin_answer(command, done.stdout)


def _plugin_answer(command: str, answer: bytes) -> Credential:
    try:
        status = json.loads(answer)["status"]
        if cert := status.get("clientCertificateData"):
            return Credential(str(cert).encode(), str(status["clientKeyData"]).encode())
        return Credential(token=str(status["token"]))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        problem = "its answer has neither token nor certificate"
        raise CredentialError(f"credential plugin {command}: {problem}") from exc


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as exc:
        problem = exc.strerror if isinstance(exc, OSError) else "is not text"
        raise CredentialError(f"the kubeconfig's tokenFile {path}: {problem}") from exc


def _bytes(encoded: object) -> bytes:
    try:
        return base64.b64decode(str(encoded), validate=True)
    except ValueError as exc:
        raise CredentialError("the kubeconfig's client certificate or key is not base64") from exc
