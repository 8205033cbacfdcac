"""The daemons one by one, for tests that kill one of them or cut what is between them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import yaml

from armadillo.up.api import ApiNotReadyError, HttpsApi
from armadillo.up.containers import containerd_of, remove_all_pods, remove_traces, unmount_below
from armadillo.up.objects import cluster_objects
from armadillo.up.options import UpOptions
from armadillo.up.plan import make_plan
from armadillo.up.sandboxes import end_process_pods
from armadillo.up.state import open_state
from tests.e2e.cluster import Kubectl, wait_until
from tests.e2e.link import Link

# Short, so that a lost node is noticed while a test waits; in proportion as upstream's 10 s and 40 s.
LEASE_S, GRACE_S = 1.0, 8.0


class Parts:
    """kubecore, cloudcore and edge-1 as processes of the test, with a link that can be cut between the last two."""

    def __init__(self, folder, runtime):
        self.layout = open_state(folder)
        self.runtime = runtime
        self.plan = make_plan(UpOptions(folder, runtime=runtime), self.layout)
        self.node = self.layout.node("edge-1")
        self.link = Link(self.plan.ports["cloudcore"])
        self.kubectl = Kubectl(self.plan.kubeconfig, folder)
        self.broker = f"127.0.0.1:{self.plan.ports['broker-edge-1']}"
        self._containerd = containerd_of(self.layout) if runtime == "cri" else None
        self._processes = {}

    def __enter__(self):
        self.link.__enter__()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info):
        for name in reversed(list(self._processes)):
            self.kill(name, signal.SIGTERM)
        self.link.__exit__()
        if self._containerd is not None:
            self._containerd.stop()
            remove_all_pods(self._containerd)
            remove_traces(self._containerd)
        end_process_pods(self.layout)
        unmount_below(self.layout.root)

    def start(self, name):
        """Start `kubecore`, `cloudcore`, `edge-1` or `lamp`; return its process."""
        self.layout.logs.mkdir(exist_ok=True)
        with (self.layout.logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", *self._command(name)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._processes[name]

    def kill(self, name, number=signal.SIGKILL):
        """Send a signal and wait until it is gone."""
        process = self._processes.pop(name)
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def running(self, name):
        """Return whether the process that was started under `name` still runs."""
        return self._processes[name].poll() is None

    def log(self, name):
        """Return what it has written so far."""
        return (self.layout.logs / f"{name}.log").read_text()

    def metric(self, name):
        """Return the sum of a counter of cloudcore over all labels; None while it does not answer."""
        certificates, port = self.plan.certificates, self.plan.ports["cloudcore-metrics"]
        api = HttpsApi(port, ca_file=certificates.ca_file, client=certificates.admin)
        try:
            text = asyncio.run(api.text("/metrics"))
        except ApiNotReadyError:
            return None
        lines = [line for line in text.splitlines() if line.startswith((name + " ", name + "{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def _command(self, name):
        if name == "lamp":
            return ["armadillo.demo_lamp", "--broker", self.broker, "--device", "default/lamp-01"]
        settings = {
            "kubecore": self.layout.kubecore / "kubecore.yaml",
            "cloudcore": self.layout.cloudcore / "cloudcore.yaml",
            "edge-1": self.node.settings,
        }[name]
        package = "edgecore" if name.startswith("edge") else name
        return [package, "--config", str(settings)]

    def _start(self):
        change(self.layout.kubecore / "kubecore.yaml", "controllers",
               node_monitor_grace_s=GRACE_S, node_monitor_period_s=0.5)  # fmt: skip
        change(self.node.settings, "hub", server=f"127.0.0.1:{self.link.port}")
        change(self.node.settings, "pods", lease_interval_s=LEASE_S, status_interval_s=LEASE_S)
        if self._containerd is not None:
            self._containerd.start()
            self._containerd.ensure_images()
        self.start("kubecore")
        self._apply_cluster_objects()
        self.start("cloudcore")
        self.start("edge-1")
        wait_until("edge-1 is Ready", lambda: self.kubectl.node_ready("edge-1") == "True", 60)

    def _apply_cluster_objects(self):
        certificates = self.plan.certificates
        api = HttpsApi(
            self.plan.ports["kubecore"], ca_file=certificates.ca_file, client=certificates.admin
        )
        wait_until("kubecore answers", lambda: not asyncio.run(api.answers("/readyz")), 30)

        async def apply():
            for obj in cluster_objects():
                await api.ensure(obj, overwrite=True)

        asyncio.run(apply())


def change(path, section, **values):
    """Change settings in a file that `make_plan` wrote."""
    tree = yaml.safe_load(path.read_text())
    tree.setdefault(section, {}).update(values)
    path.write_text(yaml.safe_dump(tree))
