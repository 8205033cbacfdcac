"""`kind: List` documents, applied by several versions of the real kubectl to a kubecore of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from armadillo.up.kubeconfig import write_kubeconfig
from corekit.pki import Authority, KeyPair
from tests.e2e.cluster import IMAGE, Kubectl, find_kubectl, wait_until
from tests.fakes.mqtt import free_port
from tests.kubecore.samples import device_crd


def _versions():
    """Return the kubectls that lie beside the usual one, oldest, middle and newest; or that one alone."""
    found = find_kubectl()
    beside = sorted(Path(found).parent.glob("kubectl.1.*")) if found else []
    chosen = sorted({beside[0], beside[len(beside) // 2], beside[-1]}) if beside else [found]
    return [pytest.param(p and str(p), id=Path(p or "none").name) for p in chosen]


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory):
    """A running kubecore: what kubectl needs to reach it."""
    folder, port = tmp_path_factory.mktemp("lists"), free_port()
    authority = Authority(folder, "lists")

    def issue(name, **more):
        return authority.issue(
            KeyPair(folder / f"{name}.crt", folder / f"{name}.key"), name, **more
        )

    server = issue("kubecore", hosts=("127.0.0.1",))
    serve = {"address": f"127.0.0.1:{port}", "cert_file": str(server.cert_file),
             "key_file": str(server.key_file),
             "client_ca_file": str(authority.pair.cert_file)}  # fmt: skip
    settings = folder / "kubecore.yaml"
    settings.write_text(
        yaml.safe_dump({"serve": serve, "store": {"path": str(folder / "kubecore.db")}})
    )
    path = folder / "kubeconfig"
    write_kubeconfig(path, server=f"https://127.0.0.1:{port}",
                     ca_file=authority.pair.cert_file,
                     client=issue("admin", organizations=("system:masters",)))  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "kubecore", "--config", str(settings)])
    yield path
    process.terminate()
    process.wait(10)


@pytest.fixture(params=_versions())
def kubectl(request, kubeconfig, tmp_path):
    """One kubectl, with an empty cache and a namespace of its own."""
    if request.param is None:
        pytest.skip("kubectl is not installed")
    made = Kubectl(kubeconfig, tmp_path, program=request.param)
    wait_until("kubecore answers", lambda: made.run("get", "--raw", "/readyz").returncode == 0)
    made.apply(device_crd())
    made("wait", "--for=condition=Established", "crd/devices.devices.kubeedge.io")
    namespace = f"lists-{time.time_ns()}"
    made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    made.namespace(namespace)
    return made


def _list(*items):
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _config_map(**data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": data}


def _pod(**changed):
    container = {"name": "c", "image": IMAGE, "resources": {"limits": {"cpu": "1"}}} | changed
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"schedulerName": "none", "containers": [container]},
    }


def _service(*ports):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"clusterIP": "None", "ports": [{"port": p, "name": f"p{p}"} for p in ports]},
    }


def _device(**spec):
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": "lamp"},
        "spec": {"nodeName": "edge-1", "port": 80, "config": {"any": ["thing"]}, **spec},
    }


def _said(text):
    return dict(line.rsplit(" ", 1) for line in text.splitlines())


def test_a_list_is_applied_and_the_second_time_nothing_changes(kubectl):
    text = _list(_config_map(a="1"), _pod(), _device())
    names = ("configmap/conf", "pod/web", "device.devices.kubeedge.io/lamp")
    assert _said(kubectl("apply", "-f", "-", stdin=text)) == dict.fromkeys(names, "created")
    assert _said(kubectl("apply", "-f", "-", stdin=text)) == dict.fromkeys(names, "unchanged")


def test_a_list_in_a_file_of_yaml_is_taken_too(kubectl, tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump(json.loads(_list(_config_map(a="1"), _device()))))
    assert set(_said(kubectl("create", "-f", str(path))).values()) == {"created"}
    assert set(_said(kubectl("replace", "-f", str(path))).values()) == {"replaced"}


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (_pod(imagee="x"), "imagee"),
        (_device(nodeNam="x"), "nodeNam"),
        (_device(cycle="often"), "cycle"),
    ],
    ids=["pod", "device", "type"],
)
def test_a_wrong_field_in_an_item_is_refused_and_named(kubectl, item, words):
    done = kubectl.run("apply", "-f", "-", stdin=_list(_config_map(a="1"), item))
    assert done.returncode != 0
    assert words in done.stderr
    assert kubectl.get(item["kind"].lower(), item["metadata"]["name"]) is None


def test_a_second_apply_of_a_list_merges_by_key(kubectl):
    kubectl("apply", "-f", "-", stdin=_list(_pod(), _service(80, 81)))
    # What others put into a list with a merge key stays; what was applied and is no more goes.
    more = {"spec": {"ports": [{"port": 90, "name": "p90"}]}}
    kubectl("patch", "service", "web", "--type=strategic", "-p", json.dumps(more))
    text = _list(_pod(image="docker.io/library/busybox:1.36"), _service(80, 82))
    assert set(_said(kubectl("apply", "-f", "-", stdin=text)).values()) == {"configured"}
    assert {p["port"] for p in kubectl.get("service", "web")["spec"]["ports"]} == {80, 82, 90}
    (container,) = kubectl.get("pod", "web")["spec"]["containers"]
    assert container["image"].endswith(":1.36")
    assert container["resources"]["limits"] == {"cpu": "1"}


def test_explain_reads_version_2(kubectl):
    done = kubectl.run("explain", "pod.spec.containers", "--output=plaintext-openapiv2")
    if "unknown" in done.stderr:
        pytest.skip("this kubectl explains by version 3 only")
    assert "imagePullPolicy" in done.stdout, done.stderr


def test_the_document_is_json_for_who_asks_for_it(kubectl):
    document = json.loads(kubectl("get", "--raw", "/openapi/v2"))
    assert document["swagger"] == "2.0"
    assert "io.k8s.api.core.v1.Pod" in document["definitions"]
