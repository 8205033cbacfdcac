"""A real kubecore filled with nodes and pods, and a real cloudcore on it, as processes."""

from __future__ import annotations

import json
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any, Self

import yaml
from scale_hub import BODY
from scale_parts import STOP_TIMEOUT_S, TREE, NodeCertificates, environment, free_port

from cloudcore.edgecontroller.nodes import AGENT_LABEL

READY_TIMEOUT_S = 120.0
RBAC_PATH = "/apis/rbac.authorization.k8s.io/v1"


class Cluster:
    """Enter: kubecore serves `pods` pods spread over `nodes` nodes, and cloudcore runs unless told otherwise."""

    def __init__(
        self, folder: Path, *, nodes: int, pods: int, start_cloudcore: bool = True
    ) -> None:
        self.folder, self._nodes, self._pods = folder, nodes, pods
        self._with_cloudcore = start_cloudcore
        self.pki = NodeCertificates(folder, nodes)
        self._kube_port, self._metrics_port = free_port(), free_port()
        self.hub_address = f"127.0.0.1:{free_port()}"
        self._kubecore: subprocess.Popen[bytes] | None = None
        self._cloudcore: subprocess.Popen[bytes] | None = None
        admin = self.pki.issue("admin", "admin", "system:masters")
        self._tls = ssl.create_default_context(cafile=str(self.pki.folder / "ca.crt"))
        self._tls.load_cert_chain(admin.cert_file, admin.key_file)

    def __enter__(self) -> Self:
        try:
            self._start_kubecore()
            for document in yaml.safe_load_all((TREE / "deploy" / "rbac.yaml").read_text()):
                plural = document["kind"].lower() + "s"
                self._call("POST", self._kube_port, f"{RBAC_PATH}/{plural}", document)
            self._end(self._kubecore)
            self._fill()
            self._start_kubecore()
            if self._with_cloudcore:
                self.start_cloudcore()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end(self._cloudcore)
        self._end(self._kubecore)

    @property
    def kubecore_pid(self) -> int:
        """Of the process."""
        assert self._kubecore
        return self._kubecore.pid

    @property
    def cloudcore_pid(self) -> int:
        """Of the process."""
        assert self._cloudcore
        return self._cloudcore.pid

    def start_cloudcore(self) -> None:
        """Start it and return at once."""
        user = self.pki.issue("cloud-user", "armadillo:cloudcore", "armadillo:cloudcore")
        server = f"https://127.0.0.1:{self._kube_port}"
        ca = str(self.pki.folder / "ca.crt")
        credentials = {"client-certificate": str(user.cert_file), "client-key": str(user.key_file)}
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
                    "clusters": [
                        {"name": "c", "cluster": {"server": server, "certificate-authority": ca}}
                    ],
                    "users": [{"name": "c", "user": credentials}],
                }
            )
        )
        settings = {
            "kube": {"kubeconfig": str(kubeconfig)},
            "hub": {
                "address": self.hub_address,
                "cert_file": str(self.pki.folder / "cloudcore.crt"),
                "key_file": str(self.pki.folder / "cloudcore.key"),
                "client_ca_file": ca,
            },
            "metrics": {"address": f"127.0.0.1:{self._metrics_port}"},
        }
        self._cloudcore = self._start("cloudcore", settings)

    def stop_cloudcore(self) -> None:
        """Stop it as a service manager does."""
        self._end(self._cloudcore)

    def peak_requests_per_s(self, during_s: float) -> float:
        """Return the most API requests that cloudcore made in a second, watching for so long."""
        peak, last, last_s = 0.0, self._requests(), time.monotonic()
        ends_s = last_s + during_s
        while last_s < ends_s:
            time.sleep(1.0)
            count, now_s = self._requests(), time.monotonic()
            peak = max(peak, (count - last) / (now_s - last_s))
            last, last_s = count, now_s
        return peak

    def _requests(self) -> float:
        text = self._call("GET", self._metrics_port, "/metrics").decode()
        lines = [li for li in text.splitlines() if li.startswith("armadillo_api_requests_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def _start_kubecore(self) -> None:
        pair = self.pki.issue("kubecore", "kubecore", hosts=("127.0.0.1",))
        settings = {
            "serve": {
                "address": f"127.0.0.1:{self._kube_port}",
                "cert_file": str(pair.cert_file),
                "key_file": str(pair.key_file),
                "client_ca_file": str(self.pki.folder / "ca.crt"),
            },
            "store": {"path": str(self.folder / "kubecore.db")},
            # Made-up nodes have no lease at first; nobody is to be evicted for that.
            "controllers": {"node_monitor_grace_s": 3600.0},
        }
        self._kubecore = self._start("kubecore", settings)
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                self._call("GET", self._kube_port, "/readyz")
                return
            except OSError as exc:
                if time.monotonic() > deadline_s:
                    raise TimeoutError("kubecore did not become ready") from exc
                time.sleep(0.2)

    def _start(self, program: str, settings: dict[str, Any]) -> subprocess.Popen[bytes]:
        config = self.folder / f"{program}.yaml"
        config.write_text(yaml.safe_dump(settings))
        with (self.folder / f"{program}.log").open("ab") as log:
            command = [sys.executable, "-m", program, "--config", str(config)]
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment())

    def _end(self, process: subprocess.Popen[bytes] | None) -> None:
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(3 * STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _call(self, verb: str, port: int, path: str, body: object = None) -> bytes:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"https://127.0.0.1:{port}{path}",
            data=content,
            method=verb,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, context=self._tls, timeout=30) as reply:
            return bytes(reply.read())

    def _fill(self) -> None:
        """Put nodes and pods into the state file: through the API 150,000 would take longer than the benchmark."""
        database = sqlite3.connect(self.folder / "kubecore.db")
        (revision,) = database.execute("SELECT v FROM meta WHERE k = 'revision'").fetchone()
        rows = []
        for kind, namespace, count in (("Node", "", self._nodes), ("Pod", "default", self._pods)):
            for number in range(count):
                revision += 1
                obj = _node(number) if kind == "Node" else _pod(number, number % self._nodes)
                metadata = obj["metadata"]
                metadata["uid"] = str(uuid.uuid4())
                metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
                metadata["resourceVersion"] = str(revision)
                value = json.dumps(obj).encode()
                rows.append((f"{kind.lower()}s", namespace, metadata["name"], revision, value))
        with database:
            database.executemany(
                "INSERT INTO obj (res, ns, name, rv, val) VALUES (?,?,?,?,?)", rows
            )
            database.execute("UPDATE meta SET v = ? WHERE k = 'revision'", (revision,))
        database.close()


def _node(number: int) -> dict[str, Any]:
    name = f"edge-{number}"
    labels = {"kubernetes.io/hostname": name, AGENT_LABEL: "edgecore"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"conditions": [ready]},
    }


def _pod(number: int, node: int) -> dict[str, Any]:
    pod: dict[str, Any] = json.loads(BODY)
    pod["metadata"]["name"] = f"web-{number:06d}"
    pod["spec"]["nodeName"] = f"edge-{node}"
    pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return pod
