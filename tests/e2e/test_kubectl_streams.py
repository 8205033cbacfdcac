"""What kubectl does inside running pods, through kubecore, cloudcore's kubelet API and the node's one connection."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest

from tests.e2e.cluster import IMAGE, pod, wait_until

SERVE = "while true; do echo tock | nc -l -p 8080 >/dev/null; done & trap 'exit 0' TERM; n=0; "
SERVE += "while true; do n=$((n+1)); echo tick $n; sleep 1; done"


@pytest.fixture(scope="module")
def inside(kubectl, runtime):
    """A running pod that ticks, serves port 8080 and has an echo beside it; name `inside`."""
    if runtime == "process":
        pytest.skip("plain processes have no exec, attach or ports of their own")
    made = pod("inside", SERVE)
    echo = {**made["spec"]["containers"][0], "name": "echo", "stdin": True, "command": ["cat"]}
    made["spec"]["containers"][0]["name"] = "main"
    made["spec"]["containers"].append(echo)
    kubectl.apply(made)
    wait_until("Running", lambda: kubectl.pod_phase("inside") == "Running", 60)
    yield "inside"
    kubectl.delete("pod", "inside")


class Terminal:
    """A command of kubectl's in a terminal of its own."""

    def __init__(self, kubectl, *arguments):
        self.output = b""
        self.master, slave = pty.openpty()
        self.resize(24, 80)
        self.process = subprocess.Popen(
            kubectl.command(*arguments),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=kubectl.environment,
            start_new_session=True,
        )
        os.close(slave)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def write(self, text):
        os.write(self.master, text.encode())

    def shows(self, pattern):
        """Read what there is; tell whether `pattern` has been shown."""
        if select.select([self.master], [], [], 0.2)[0]:
            with contextlib.suppress(OSError):  # the end of a terminal
                self.output += os.read(self.master, 65536)
        return re.search(pattern, self.output.decode("utf-8", "replace"))

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self.master)


def test_logs_are_read_and_followed(kubectl, inside):
    wait_until("three ticks", lambda: "tick 3" in kubectl("logs", inside, "-c", "main"))
    assert kubectl("logs", inside, "-c", "main", "--tail=1").startswith("tick ")
    stamped = kubectl("logs", inside, "-c", "main", "--timestamps").splitlines()[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\S+Z tick 1", stamped)
    follow = kubectl.popen("logs", "-f", inside, "-c", "main", "--tail=1")
    try:
        first, second = (follow.stdout.readline().split() for _ in range(2))
    finally:
        follow.kill()
        follow.wait(10)
        follow.stdout.close()
    assert int(second[1]) == int(first[1]) + 1


def test_a_command_has_input_output_and_an_exit_code(kubectl, inside):
    assert kubectl("exec", inside, "-c", "main", "--", "echo", "a  b") == "a  b\n"
    text = "over there\n" * 2000
    assert kubectl("exec", "-i", inside, "-c", "main", "--", "cat", stdin=text) == text
    script = "echo out; echo err >&2; exit 7"
    ended = kubectl.run("exec", inside, "-c", "main", "--", "sh", "-c", script)
    assert (ended.returncode, ended.stdout) == (7, "out\n")
    assert "err\n" in ended.stderr


def test_a_shell_has_a_terminal_that_can_be_resized(kubectl, inside):
    terminal = Terminal(kubectl, "exec", "-it", inside, "-c", "main", "--", "sh")
    try:
        terminal.write("echo be''gun; stty size\r")
        wait_until("the size", lambda: terminal.shows(r"begun\s+24 80"))
        terminal.resize(40, 100)
        terminal.process.send_signal(signal.SIGWINCH)
        for _ in range(20):  # nothing tells when the size has arrived
            terminal.write("stty size\r")
            time.sleep(0.2)
            if terminal.shows("40 100"):
                break
        assert terminal.shows("40 100"), terminal.output
        terminal.write("exit 3\r")
        wait_until("the end", lambda: terminal.process.poll() is not None)
        assert terminal.process.returncode == 3
    finally:
        terminal.close()


def test_attach_talks_to_the_running_container(kubectl, inside):
    attach = kubectl.popen("attach", "-i", inside, "-c", "echo", stdin=subprocess.PIPE)
    try:
        attach.stdin.write("hear me\n")
        attach.stdin.flush()
        while (line := attach.stdout.readline()) != "hear me\n":
            assert line, "attach ended"
    finally:
        attach.kill()
        attach.wait(10)
        attach.stdin.close()
        attach.stdout.close()


def test_files_are_copied_both_ways(kubectl, inside, tmp_path):
    source, back = tmp_path / "a.bin", tmp_path / "b.bin"
    source.write_bytes(os.urandom(300_000))
    kubectl("cp", "-c", "main", str(source), f"{inside}:/tmp/a.bin")
    kubectl("cp", "-c", "main", f"{inside}:/tmp/a.bin", str(back))
    assert back.read_bytes() == source.read_bytes()


def test_a_port_is_forwarded(kubectl, inside):
    forward = kubectl.popen("port-forward", inside, ":8080")
    try:
        local = int(forward.stdout.readline().split("127.0.0.1:")[1].split()[0])

        def tock():
            with socket.create_connection(("127.0.0.1", local), 5) as connection:
                connection.settimeout(5)
                return connection.recv(100)

        assert wait_until("an answer", tock) == b"tock\n"
    finally:
        forward.kill()
        forward.wait(10)
        forward.stdout.close()


def test_use_is_shown_by_node_and_pod(kubectl, inside):
    shown = wait_until(
        "the pod's use", lambda: kubectl.run("top", "pod", inside, "--no-headers").stdout, 60
    )
    assert re.fullmatch(r"inside +\d+m +\d+Mi\s+", shown)
    assert re.match(r"edge-1 +\d+m +\d+% +\d+Mi", kubectl("top", "node", "--no-headers"))


def test_a_running_pod_is_debugged(kubectl, inside):
    image = (f"--image={IMAGE}", "--image-pull-policy=IfNotPresent")
    kubectl("debug", inside, *image, "--target=main", "-c", "dbg", "--", "sleep", "60")

    def running():
        statuses = kubectl.get("pod", inside)["status"].get("ephemeralContainerStatuses") or []
        return [s for s in statuses if "running" in s["state"]]

    assert wait_until("the debugger runs", running)[0]["name"] == "dbg"
    assert kubectl("exec", inside, "-c", "dbg", "--", "echo", "here") == "here\n"


def test_a_container_finds_the_token_of_its_account(kubectl, inside):
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    script = f"cat {folder}/namespace; echo; cut -d. -f1 {folder}/token; head -1 {folder}/ca.crt"
    namespace, head, ca = kubectl(
        "exec", inside, "-c", "main", "--", "sh", "-c", script
    ).splitlines()
    assert (namespace, head[:2], ca) == ("default", "ey", "-----BEGIN CERTIFICATE-----")
