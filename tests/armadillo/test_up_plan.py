"""What is written before anything starts: every settings file is one its daemon accepts."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from armadillo.up.options import UpOptions, choose_runtime
from armadillo.up.plan import make_plan
from armadillo.up.state import open_state
from armadillo.up.welcome import welcome
from cloudcore.settings import CloudSettings
from corekit.errors import ConfigError
from corekit.settings import load_settings
from edgecore.settings import EdgeSettings
from kubecore.settings import KubecoreSettings


@pytest.fixture
def plan(tmp_path):
    return make_plan(UpOptions(tmp_path, nodes=2, runtime="process"), open_state(tmp_path))


def test_each_daemon_accepts_its_settings(plan):
    layout, ports = plan.layout, plan.ports
    kubecore = load_settings(layout.kubecore / "kubecore.yaml", KubecoreSettings)
    cloudcore = load_settings(layout.cloudcore / "cloudcore.yaml", CloudSettings)
    edges = [load_settings(layout.node(name).settings, EdgeSettings) for name in plan.nodes]
    assert kubecore.serve.address == f"127.0.0.1:{ports['kubecore']}"
    assert [edge.hub.server for edge in edges] == [cloudcore.hub.address] * 2
    assert [edge.node.name for edge in edges] == ["edge-1", "edge-2"]
    assert len({edge.broker.embedded_address for edge in edges}) == 2
    assert {edge.pods.runtime for edge in edges} == {"process"}
    assert not any(edge.pods.cluster_has_dns for edge in edges)


def test_identities_are_as_the_authorizer_expects(plan):
    certificates = plan.certificates
    subjects = [
        x509.load_pem_x509_certificate(pair.cert_file.read_bytes()).subject.rfc4514_string()
        for pair in (
            certificates.admin,
            certificates.cloudcore_client,
            certificates.nodes["edge-2"],
        )
    ]
    assert subjects == [
        "O=system:masters,CN=kubernetes-admin",
        "O=armadillo:cloudcore,CN=armadillo:cloudcore",
        "O=system:nodes,CN=system:node:edge-2",
    ]


def test_the_kubeconfig_is_complete_and_private(plan):
    tree = yaml.safe_load(plan.kubeconfig.read_text())
    assert tree["current-context"] == "armadillo"
    assert "certificate-authority-data" in tree["clusters"][0]["cluster"]
    assert plan.kubeconfig.stat().st_mode & 0o777 == 0o600
    context = ssl.create_default_context(cafile=str(plan.certificates.ca_file))
    context.load_cert_chain(plan.certificates.admin.cert_file, plan.certificates.admin.key_file)


def test_a_second_plan_keeps_ports_and_certificates(plan, tmp_path):
    before = plan.kubeconfig.read_bytes()
    again = make_plan(UpOptions(tmp_path, nodes=2, runtime="process"), open_state(tmp_path))
    assert again.ports == plan.ports
    assert again.kubeconfig.read_bytes() == before


def test_a_users_cluster_needs_no_kubecore(plan, tmp_path):
    own = make_plan(
        UpOptions(tmp_path / "s", runtime="process", kubeconfig=plan.kubeconfig),
        open_state(tmp_path / "s"),
    )
    cloudcore = load_settings(own.layout.cloudcore / "cloudcore.yaml", CloudSettings)
    assert "kubecore" not in own.ports
    assert cloudcore.kube.kubeconfig == str(plan.kubeconfig)


def test_the_welcome_names_the_kubeconfig_and_five_commands(plan):
    text = welcome(plan)
    assert f"kubeconfig: {plan.kubeconfig}" in text
    commands = [line for line in text.splitlines() if line.startswith(("  kubectl", "  export"))]
    assert len(commands) == 5
    assert "kubectl edge twin set lamp-01" in text


def test_the_welcome_says_where_the_plugin_is_if_kubectl_would_not_find_it(plan, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert f" PATH={Path(sys.executable).parent}:$PATH" in welcome(plan)


def test_the_welcome_does_not_count_on_the_path_that_make_gave_it(plan, monkeypatch):
    own = Path(sys.executable).parent
    assert (own / "kubectl-edge").exists()
    monkeypatch.setenv("PATH", f"{own}:/nonexistent")
    assert f" PATH={own}:$PATH" in welcome(plan)


def test_the_welcome_leaves_the_path_alone_where_the_plugin_is_installed(
    plan, monkeypatch, tmp_path
):
    plugin = tmp_path / "kubectl-edge"
    plugin.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{tmp_path}")
    assert " PATH=" not in welcome(plan)


def test_every_node_has_its_folder_for_static_pods(plan):
    nodes = [plan.layout.node(name) for name in plan.nodes]
    static = [load_settings(node.settings, EdgeSettings).pods.static_dir for node in nodes]
    assert static == [str(node.manifests) for node in nodes]
    assert all(node.manifests.is_dir() for node in nodes)


def test_the_kubeconfig_says_where_values_are_for_certificates_and_for_tokens(plan):
    cloudcore = load_settings(plan.layout.cloudcore / "cloudcore.yaml", CloudSettings).values
    cluster = yaml.safe_load(plan.kubeconfig.read_text())["clusters"][0]["cluster"]
    said = cluster["extensions"][0]["extension"]
    assert said == {"server": cloudcore.address, "tokenServer": cloudcore.token_address}
    assert cloudcore.address != cloudcore.token_address
    assert Path(cloudcore.history_dir) == plan.layout.cloudcore


def test_cri_is_refused_where_it_cannot_be(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ConfigError, match=r"--runtime cri: missing on this machine: .*containerd"):
        choose_runtime("cri")
    assert choose_runtime("auto")[0] == "process"
