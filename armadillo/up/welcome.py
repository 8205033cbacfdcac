"""What a person reads when all is ready."""

from __future__ import annotations

import shlex
from pathlib import Path

from armadillo.up.objects import TREE
from armadillo.up.plan import Plan, broker


def welcome(plan: Plan) -> str:
    """Return where the kubeconfig is and five commands to try."""
    # A JSON patch names one value; a merge patch would replace the whole list of properties.
    patch = '[{"op":"replace","path":"/spec/properties/0/desired/value","value":"false"}]'
    lines = [
        "",
        f"kubeconfig: {plan.kubeconfig}",
        "",
        "Try, in another terminal:",
        f"  export KUBECONFIG={shlex.quote(str(plan.kubeconfig))}",
        "  kubectl get nodes -o wide",
        f"  kubectl apply -f {shlex.quote(_shown(TREE / 'docs' / 'samples' / 'pod.yaml'))}",
    ]
    if plan.options.demo:
        lines += [
            f"  kubectl patch device lamp-01 --type json -p '{patch}'",
            "  kubectl get device lamp-01 -o yaml",
        ]
    else:
        lines += ["  kubectl get pods -o wide -w", "  kubectl get devices"]
    brokers = ", ".join(f"{node} {broker(plan, node)}" for node in plan.nodes)
    lines += ["", f"MQTT brokers: {brokers}", f"logs: {plan.layout.logs}", "Ctrl-C stops."]
    return "\n".join(lines)


def _shown(path: Path) -> str:
    """Return the path as short as it can be typed from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
