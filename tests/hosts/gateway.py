"""A gateway as docs/operating.md has it installed, and the cloud that it dials."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import yaml

from armadillo.images import PAUSE_IMAGE, local_images, write_archive
from tests.e2e.cluster import pod, wait_until
from tests.e2e.parts import Parts

SOURCES = Path(__file__).parents[2]
PACKAGES = ("corekit", "synccore", "devicemodels", "edgecore", "cloudcore", "mappers")
PATIENCE_S = 300.0  # the machine may be emulated
NODE = "edge-1"
NETWORK = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.42.7.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
# Version 2 of the file: containerd 2 reads it as well.
CONTAINERD = """version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = {systemd}
"""


class Cloud(Parts):
    """kubecore and cloudcore on this machine; the node is somewhere else."""

    def _start(self):
        self.start("kubecore")
        self._apply_cluster_objects()
        self.start("cloudcore")


class Gateway:
    """The machine with its agent, and kubectl on the cluster it belongs to."""

    def __init__(self, machine, cloud, folder):
        self.machine, self.cloud, self._folder = machine, cloud, folder
        self.run, self.kubectl = machine.run, cloud.kubectl

    def install(self):
        """Do what a gateway's owner does, and wait until the node is Ready."""
        self._copy_programs()
        pki = self.cloud.layout.root / "pki"
        names = {"ca.crt": "ca.crt", f"{NODE}.crt": "node.crt", f"{NODE}.key": "node.key"}
        unit = SOURCES / "deploy/systemd/edgecore.service"
        self.machine.put(
            {
                **{f"/etc/armadillo/pki/{to}": (pki / name).read_bytes() for name, to in names.items()},
                "/etc/cni/net.d/10-pods.conflist": json.dumps(NETWORK),
                "/etc/containerd/config.toml": CONTAINERD.format(pause=PAUSE_IMAGE, systemd="true"),
                "/etc/systemd/system/edgecore.service": unit.read_text(),
                "/root/images.tar": self._images(),
            }
        )  # fmt: skip
        self.configure()
        self.run("systemctl restart containerd && ctr -n k8s.io images import /root/images.tar")
        self.run(
            "systemctl daemon-reload && systemctl enable --now edgecore"
            " || { journalctl -u edgecore -n 30 -o cat >&2; false; }",
            timeout_s=PATIENCE_S,
        )
        self.until_ready()

    def configure(self, **pods):
        """Write the agent's settings, with these for pods."""
        # 10.0.2.2 is this machine as QEMU shows it; the cloud's certificate has its name.
        name = socket.gethostname().lower()
        self.run(f"grep -q ' {name}$' /etc/hosts || echo '10.0.2.2 {name}' >> /etc/hosts")
        tree = {
            "node": {"name": NODE},
            "hub": {"server": f"{name}:{self.cloud.plan.ports['cloudcore']}", "backoff_max_s": 2.0},
            "pods": {"cluster_has_dns": False, **pods},
            "metrics": {"socket": "/run/armadillo/metrics.sock"},
        }
        self.machine.put({"/etc/armadillo/edgecore.yaml": yaml.safe_dump(tree)})

    def use_cgroups_of(self, *, systemd):
        """Choose who makes the cgroups of containers, as containerd's and the agent's owner."""
        text = CONTAINERD.format(pause=PAUSE_IMAGE, systemd=str(systemd).lower())
        self.machine.put({"/etc/containerd/config.toml": text})
        self.run("systemctl restart containerd edgecore", timeout_s=PATIENCE_S)

    def until_ready(self):
        wait_until(f"{NODE} is Ready", lambda: self.kubectl.node_ready(NODE) == "True", PATIENCE_S)

    def start(self, name, script="sleep 100000", phase="Running", **more):
        """Have a pod that runs `script`, and return it once it is in `phase`."""
        self.kubectl.apply(pod(name, script, grace_s=1, **more))
        wait_until(f"{name} is {phase}", lambda: self.kubectl.pod_phase(name) == phase, PATIENCE_S)
        return self.kubectl.get("pod", name)

    def waiting(self, name, reason):
        """Wait until the container of the pod waits for this reason; return the sentence."""

        def found():
            state = self.kubectl.container(name).get("state", {}).get("waiting", {})
            return state.get("message") if state.get("reason") == reason else None

        return wait_until(f"{name} waits: {reason}", found, PATIENCE_S)

    def delete(self, *names):
        self.kubectl.delete("pod", *names, timeout_s=PATIENCE_S)

    def cgroup(self, folder, *files):
        """Return what these files of a cgroup say."""
        out = self.run(f"cd /sys/fs/cgroup/{folder.lstrip('/')} && head -qn1 {' '.join(files)}")
        return dict(zip(files, out.splitlines(), strict=True))

    def version_of_containerd(self):
        words = self.run("containerd --version").split()
        return tuple(int(part) for part in words[2].split("~")[0].split("+")[0].split(".")[:2])

    def _copy_programs(self):
        """Put the code of this tree in the place of what the image was made with."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "-co", "--exclude-standard", *PACKAGES],
            cwd=SOURCES, check=True, capture_output=True,
        ).stdout  # fmt: skip
        packed = subprocess.run(
            ["tar", "--null", "-T", "-", "-cf", "-"],
            cwd=SOURCES, input=listed, check=True, capture_output=True,
        ).stdout  # fmt: skip
        self.run("tar -C /opt/armadillo/lib/python3*/site-packages -xf -", data=packed)

    def _images(self):
        archive = self._folder / "images.tar"
        write_archive(archive, local_images())
        return archive.read_bytes()
