"""What the e2e tests share: the real kubectl, waiting with a deadline, manifests, and a running `armadillo up`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

IMAGE = "docker.io/library/busybox:latest"
READY_S = 90.0
STOP_S = 15.0


def find_kubectl() -> str | None:
    """Return the real kubectl: some machines have a dispatcher in front of it that chooses by server version."""
    found = shutil.which("kubectl")
    if found is None:
        return None
    beside = Path(found).resolve().parent
    return str(beside / "kubectl.1.32") if (beside / "kubectl.1.32").exists() else found


def wait_until(what, predicate, deadline_s=30.0):
    """Return the first true result of `predicate`; fail naming `what` and the last result after `deadline_s`."""
    end = time.monotonic() + deadline_s
    while True:
        result = predicate()
        if result:
            return result
        assert time.monotonic() < end, f"not in {deadline_s:.0f} s: {what}; last: {result!r}"
        time.sleep(0.1)


class Kubectl:
    """The real kubectl with one kubeconfig and a home of its own, so that no cache of the user's is read."""

    def __init__(self, kubeconfig, home, program=None):
        program = program or find_kubectl()
        assert program, "kubectl is needed"
        self._base = [program, "--kubeconfig", str(kubeconfig)]
        self._env = {**os.environ, "HOME": str(home), "KUBECACHEDIR": str(home / "cache")}
        self._env.pop("KUBECONFIG", None)

    def namespace(self, name):
        """Work in this namespace from now on."""
        self._base += ["--namespace", name]

    def run(self, *args, stdin="", timeout_s=30.0):
        """Return the finished kubectl, whatever its status."""
        return subprocess.run(
            [*self._base, *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self._env,
        )

    def __call__(self, *args, stdin="", timeout_s=30.0):
        """Return what kubectl prints; it must succeed."""
        done = self.run(*args, stdin=stdin, timeout_s=timeout_s)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr or done.stdout}"
        return done.stdout

    def get(self, *args):
        """Return an object, or None if it is not there."""
        text = self("get", *args, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def apply(self, *objects):
        """Apply objects, as `kubectl apply -f -` does for a user's file."""
        return self("apply", "-f", "-", stdin="\n".join(map(json.dumps, objects)))

    def command(self, *args):
        """Return the command line of kubectl."""
        return [*self._base, *args]

    @property
    def environment(self):
        """The environment kubectl runs in."""
        return self._env

    def popen(self, *args, stdin=None):
        """Return a running kubectl whose output can be read as text."""
        return subprocess.Popen(
            self.command(*args),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self._env,
        )

    def watch(self, *args, out):
        """Return a running `kubectl get ... -w` that writes to the file `out`."""
        return subprocess.Popen(
            [*self._base, "get", *args, "-w"], stdout=out, stderr=subprocess.STDOUT, env=self._env
        )

    def delete(self, kind, *names, timeout_s=60.0):
        """Delete and wait until they are gone."""
        if not names:
            return
        self(
            "delete",
            kind,
            *names,
            "--ignore-not-found",
            f"--timeout={timeout_s:.0f}s",
            timeout_s=timeout_s + 5.0,
        )

    # -- what tests ask again and again --

    def pod_phase(self, name):
        """Return the phase, or None if the pod is not there."""
        found = self.get("pod", name)
        return found and found["status"].get("phase")

    def node_ready(self, name):
        """Return True, False or Unknown as the Ready condition says; None without the node."""
        found = self.get("node", name)
        conditions = (found or {}).get("status", {}).get("conditions", [])
        return next((c["status"] for c in conditions if c["type"] == "Ready"), None)

    def container(self, pod):
        """Return the first container's status, {} if there is none yet."""
        found = self.get("pod", pod) or {}
        return (found.get("status", {}).get("containerStatuses") or [{}])[0]

    def reported(self, device, name):
        """Return the reported value of one property of a device, None if there is none."""
        found = self.get("device", device) or {}
        for twin in (found.get("status") or {}).get("twins") or []:
            if twin["propertyName"] == name and twin.get("reported"):
                return twin["reported"]["value"]
        return None


def pod(name, script, *, node="edge-1", restart="Never", grace_s=2, **more):
    """Return a Pod that runs `script` in a shell; `container` and `spec` in `more` are merged in."""
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        **more.get("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": grace_s,
            "containers": [container],
            **more.get("spec", {}),
        },
    }


class RunningUp:
    """`armadillo up` as a user starts it: a process of its own, its output in a file."""

    def __init__(self, state, *flags):
        self.state, self._flags = state, flags
        self.output = state.with_name(state.name + ".out")
        self.process = None

    def start(self):
        """Start it and return the seconds until it says `kubeconfig:`."""
        begun = time.monotonic()
        offset = self.output.stat().st_size if self.output.exists() else 0
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "armadillo", "up", "--state", str(self.state), *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

        def said():
            assert self.process.poll() is None, self.output.read_text()[offset:]
            return "kubeconfig: " in self.output.read_text()[offset:]

        wait_until("armadillo up is ready", said, READY_S)
        return time.monotonic() - begun

    @property
    def node_logs(self):
        """The folder with container logs of edge-1."""
        return self.state / "nodes" / "edge-1" / "logs"

    def stop(self):
        """Ctrl-C; return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_S)

    def remove(self):
        """Stop it if it runs, and remove whatever it made."""
        if self.process is not None:
            self.stop()
        subprocess.run(
            [sys.executable, "-m", "armadillo", "down", "--purge", "--state", str(self.state)],
            check=True,
            timeout=60,
        )


def container_log(logs, pod_object):
    """Return what the containers of a pod wrote, all of it."""
    uid = pod_object["metadata"]["uid"]
    return "".join(path.read_text() for path in sorted(logs.glob(f"*{uid}*/**/*.log")))
