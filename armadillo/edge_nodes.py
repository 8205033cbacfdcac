"""`kubectl edge node …`: throw out a gateway that is in wrong hands, and let one in again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from armadillo.edge_devices import REFUSED, USAGE, fail, kubectl
from armadillo.kubectl import Json, Kubectl, KubectlError
from corekit.timestamps import rfc3339

# What every cloudcore follows; docs/operating.md, "A gateway in wrong hands".
NAMESPACE, CONFIG_MAP = "kube-system", "armadillo-revoked-nodes"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

Node = Annotated[str, typer.Argument(metavar="NODE")]

node_app = typer.Typer(
    no_args_is_help=True, help="Gateways that are in wrong hands, and are not any more."
)


@node_app.command("revoke")
def revoke(
    context: typer.Context,
    node: Node,
    *,
    every: Annotated[bool, typer.Option("--all", help="Those issued later too.")] = False,
) -> None:
    """Refuse every certificate that was issued to NODE until now, and cut its connection."""
    _check(node)
    calls = kubectl(context)
    pods = calls.items(
        "get", "pods", "--all-namespaces", "--field-selector", f"spec.nodeName={node}"
    )
    now = rfc3339(time.time())
    _write(calls, {node: "*" if every else now})
    which = "all certificates" if every else f"certificates issued before {now}"
    typer.echo(f"{node}: {which} are revoked; its connection ends now")
    names = sorted({name for pod in pods for name in secrets_of(pod)})
    if names:
        typer.echo(f"{node} holds these secrets, change them: {', '.join(names)}")
    if _is_known(calls, node):
        typer.echo(f"its pods and their tokens end with: kubectl delete node {node}")
    else:  # deleted already, or the name is wrong and the gateway still in: only a person can tell
        typer.echo(f"there is no node {node} in this cluster: is the name right?", err=True)


@node_app.command("admit")
def admit(context: typer.Context, node: Node) -> None:
    """Take back that certificates of NODE are revoked."""
    _check(node)
    calls = kubectl(context)
    if node not in _lines(calls):
        typer.echo(f"{node}: no certificate of it was revoked")
        return
    _write(calls, {node: None})
    typer.echo(f"{node}: every certificate of it counts again")


def secrets_of(pod: Json) -> Iterator[str]:
    """Yield the Secrets that a node needs for `pod`, as namespace/name."""
    namespace, spec = pod["metadata"]["namespace"], pod.get("spec", {})
    names = [entry.get("name") for entry in spec.get("imagePullSecrets") or []]
    for volume in spec.get("volumes") or []:
        names.append((volume.get("secret") or {}).get("secretName"))
        sources = (volume.get("projected") or {}).get("sources") or []
        names += [(source.get("secret") or {}).get("name") for source in sources]
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or []:
            names += _secrets_in_env(container)
    yield from (f"{namespace}/{name}" for name in names if name)


def _secrets_in_env(container: dict[str, Any]) -> Iterator[str | None]:
    for source in container.get("envFrom") or []:
        yield (source.get("secretRef") or {}).get("name")
    for variable in container.get("env") or []:
        value = variable.get("valueFrom") or {}
        yield (value.get("secretKeyRef") or {}).get("name")


def _check(node: str) -> None:
    if not _NAME.fullmatch(node):
        fail(f"{node!r} is not a possible name of a node", USAGE)


def _is_known(calls: Kubectl, node: str) -> bool:
    """Return whether the cluster has this Node; yes if it does not say."""
    try:
        calls.json("get", "node", node, quiet=True)
    except KubectlError as exc:
        return "NotFound" not in exc.said
    return True


def _lines(calls: Kubectl) -> Json:
    """Return what the ConfigMap holds, by node."""
    try:
        found = calls.json("get", "configmap", CONFIG_MAP, "--namespace", NAMESPACE, quiet=True)
    except KubectlError as exc:
        if "NotFound" not in exc.said:
            fail(exc.said, REFUSED)
        return {}
    return found.get("data") or {}


def _write(calls: Kubectl, lines: dict[str, str | None]) -> None:
    """Merge `lines` into the ConfigMap; None takes a line away."""
    patch = ["--type", "merge", "--patch", json.dumps({"data": lines})]
    where = ["--namespace", NAMESPACE]
    try:
        calls.json("patch", "configmap", CONFIG_MAP, *where, *patch, quiet=True)
    except KubectlError as exc:
        if "NotFound" not in exc.said:
            fail(exc.said, REFUSED)
        made = [f"--from-literal={node}={since}" for node, since in lines.items() if since]
        if made:  # nothing is revoked: nothing to take back
            calls.json("create", "configmap", CONFIG_MAP, *where, *made)
