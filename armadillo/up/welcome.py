"""What a person reads when all is ready."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from armadillo.up.objects import TREE
from armadillo.up.plan import Plan, broker


def welcome(plan: Plan) -> str:
    """Return where the kubeconfig is and five commands to try."""
    lines = [
        "",
        f"kubeconfig: {plan.kubeconfig}",
        "",
        "Try, in another terminal:",
        f"  export KUBECONFIG={shlex.quote(str(plan.kubeconfig))}{_path()}",
        "  kubectl get nodes -o wide",
        f"  kubectl apply -f {shlex.quote(_shown(TREE / 'docs' / 'samples' / 'pod.yaml'))}",
    ]
    if plan.options.demo:
        lines += [
            "  kubectl edge twin set lamp-01 power=false brightness=30",
            "  kubectl edge twin watch lamp-01",
        ]
    else:
        lines += ["  kubectl get pods -o wide -w", "  kubectl get devices"]
    brokers = ", ".join(f"{node} {broker(plan, node)}" for node in plan.nodes)
    lines += ["", f"MQTT brokers: {brokers}", f"logs: {plan.layout.logs}", "Ctrl-C stops."]
    return "\n".join(lines)


def _path() -> str:
    """Return what makes `kubectl edge` known in another terminal; nothing where it is."""
    own = Path(sys.executable).parent
    # `make up` has put our own folder into its PATH, and the other terminal has not.
    others = [folder for folder in os.get_exec_path() if Path(folder).resolve() != own.resolve()]
    if shutil.which("kubectl-edge", path=os.pathsep.join(others)):
        return ""
    return f" PATH={shlex.quote(str(own))}:$PATH"


def _shown(path: Path) -> str:
    """Return the path as short as it can be typed from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
