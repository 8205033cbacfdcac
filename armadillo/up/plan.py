"""Everything decided and written before the first process starts."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from armadillo.up import configs
from armadillo.up.certificates import Certificates, issue_certificates
from armadillo.up.kubeconfig import check_kubeconfig, write_kubeconfig
from armadillo.up.options import UpOptions, choose_runtime
from armadillo.up.ports import claim_ports
from armadillo.up.state import StateLayout, node_names
from armadillo.up.supervisor import Program

# Stages of start and, backwards, of stop: the API last, so that what stops can still say so.
KUBECORE, CLOUDCORE, EDGE, DEMO = range(4)


@dataclass(frozen=True)
class Plan:
    """One run. Shapes: kubeconfig: the one to give to people; ports: by the names in `port_names`."""

    options: UpOptions
    layout: StateLayout
    nodes: list[str]
    ports: dict[str, int]
    certificates: Certificates
    kubeconfig: Path
    runtime: str
    runtime_reason: str

    @property
    def own_cluster(self) -> bool:
        """Whether kubecore runs here."""
        return self.options.kubeconfig is None


def make_plan(options: UpOptions, layout: StateLayout) -> Plan:
    """Choose ports and runtime, issue certificates, write kubeconfigs and all settings files.

    Raises:  ConfigError: a flag that cannot be served here. UpError: a port is taken.
    """
    runtime, reason = choose_runtime(options.runtime)
    nodes = node_names(options.nodes)
    user_file = check_kubeconfig(options.kubeconfig) if options.kubeconfig else None
    plan = Plan(
        options=options,
        layout=layout,
        nodes=nodes,
        ports=claim_ports(layout.ports, port_names(nodes, own_cluster=user_file is None)),
        certificates=issue_certificates(layout.pki, nodes),
        kubeconfig=user_file or layout.kubeconfig,
        runtime=runtime,
        runtime_reason=reason,
    )
    _write(plan)
    return plan


def port_names(nodes: list[str], *, own_cluster: bool) -> list[str]:
    """Return the names of the ports a run needs."""
    names = ["kubecore", "nodeproxy"] if own_cluster else []
    return [
        *names,
        "cloudcore",
        "cloudcore-metrics",
        "cloudcore-values",
        "cloudcore-values-tokens",
        *(f"broker-{node}" for node in nodes),
    ]


def cloud_kubeconfig(plan: Plan) -> Path:
    """Return the kubeconfig that cloudcore uses."""
    return plan.layout.cloudcore / "kubeconfig" if plan.own_cluster else plan.kubeconfig


def daemon(package: str, settings: Path, *, name: str, stage: int) -> Program:
    """Return the program that runs one of our daemons."""
    return Program(name, (*python("-m", package), "--config", str(settings)), stage)


def python(*args: str) -> tuple[str, ...]:
    """Return a command that runs this Python; -P keeps the user's folder out of its import path."""
    return (sys.executable, "-P", *args)


def broker(plan: Plan, node: str) -> str:
    """Return host:port of a node's MQTT broker."""
    return f"127.0.0.1:{plan.ports[f'broker-{node}']}"


def _write(plan: Plan) -> None:
    layout, certificates, ports = plan.layout, plan.certificates, plan.ports
    values = {
        "address": f"127.0.0.1:{ports['cloudcore-values']}",
        "token_address": f"127.0.0.1:{ports['cloudcore-values-tokens']}",
        "history_dir": str(layout.cloudcore),
    }
    if plan.own_cluster:
        server = f"https://127.0.0.1:{ports['kubecore']}"
        for path, client in (
            (plan.kubeconfig, certificates.admin),
            (cloud_kubeconfig(plan), certificates.cloudcore_client),
        ):
            write_kubeconfig(
                path,
                server=server,
                ca_file=certificates.ca_file,
                client=client,
                values=(values["address"], values["token_address"]),
            )
        configs.write_settings(
            layout.kubecore / "kubecore.yaml",
            configs.kubecore_settings(
                layout, certificates, ports["kubecore"], mount_tokens=plan.runtime != "process"
            ),
        )
    cloud = configs.cloudcore_settings(
        certificates,
        kubeconfig=cloud_kubeconfig(plan),
        hub_port=ports["cloudcore"],
        metrics_port=ports["cloudcore-metrics"],
        values=values,
        # A cluster that runs elsewhere cannot reach loopback; docs/operating.md says what to set for one.
        proxy_port=ports["nodeproxy"] if plan.own_cluster else None,
    )
    configs.write_settings(layout.cloudcore / "cloudcore.yaml", cloud)
    address = configs.host_address()
    for name in plan.nodes:
        _write_node(plan, name, address)


def _write_node(plan: Plan, name: str, address: str) -> None:
    node = plan.layout.node(name)
    for folder in (node.pods, node.logs, node.manifests):
        folder.mkdir(parents=True, exist_ok=True)
    choice = configs.NodeChoice(
        broker_port=plan.ports[f"broker-{name}"],
        runtime=plan.runtime,
        cri_socket=plan.layout.containerd / "containerd.sock",
        address=address,
    )
    server = f"127.0.0.1:{plan.ports['cloudcore']}"
    tree = configs.edgecore_settings(node, plan.certificates, server=server, choice=choice)
    configs.write_settings(node.settings, tree)
