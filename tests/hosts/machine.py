"""A whole machine with its own kernel and systemd, in QEMU; `deploy/hosttest.sh` makes its disk."""

from __future__ import annotations

import os
import socket
import subprocess
import tarfile
import time
from io import BytesIO

BOOT_S = 600.0  # emulated, on a busy machine
COMMAND_S = 180.0


class Machine:
    """One machine from the disk in `folder`; what it writes is forgotten with it, but outlives its reboots."""

    def __init__(self, folder, log):
        self._folder, self._log = folder, log
        self._port = free_port()
        self._process = None

    def start(self):
        """Boot it, and wait until it lets us in."""
        accelerator = os.environ.get("HOSTTEST_ACCEL", "tcg")
        processor = {"tcg": ["-accel", "tcg,thread=multi", "-cpu", "max"]}.get(
            accelerator, ["-accel", accelerator, "-cpu", "host"]
        )
        disk = f"file={self._folder}/disk.img,if=virtio,format=raw,snapshot=on"
        network = f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{self._port}-:22"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "qemu-system-x86_64", *processor, "-smp", "2", "-m", "2048", "-nodefaults",
                    "-display", "none", "-serial", "stdio", "-device", "virtio-rng-pci",
                    "-kernel", str(self._folder / "vmlinuz"),
                    "-initrd", str(self._folder / "initrd"),
                    "-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0",
                    "-drive", disk, "-nic", network,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._await_boot()

    def stop(self):
        """Pull the plug."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def reboot(self):
        """Reboot it as its owner would, and wait until it lets us in again."""
        before = self._boot_id()
        self.run("systemctl reboot")
        self._await_boot(before)

    def run(self, script, *, data=b"", timeout_s=COMMAND_S):
        """Return what `script` prints; it must succeed."""
        done = self._ssh(script, data, timeout_s)
        assert done.returncode == 0, f"{script}: {done.stderr or done.stdout}"
        return done.stdout

    def put(self, files):
        """Write files. Shapes: files: absolute path -> text or bytes."""
        archive = BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path, content in files.items():
                content = content.encode() if isinstance(content, str) else content
                member = tarfile.TarInfo(path.lstrip("/"))
                member.size, member.mode = len(content), 0o600 if path.endswith(".key") else 0o644
                tar.addfile(member, BytesIO(content))
        self.run("tar -C / -xf -", data=archive.getvalue())

    def _boot_id(self):
        done = self._ssh("cat /proc/sys/kernel/random/boot_id", b"", 30)
        return done.stdout.strip() if done.returncode == 0 else ""

    def _await_boot(self, before=""):
        end = time.monotonic() + BOOT_S
        while self._boot_id() in ("", before):
            assert self._process.poll() is None, (
                f"the machine ended: {self._log.read_text()[-500:]}"
            )
            assert time.monotonic() < end, f"not up: {self._log.read_text()[-500:]}"
            time.sleep(1)
        self.run("systemctl is-system-running --wait || true", timeout_s=BOOT_S)

    def _ssh(self, script, data, timeout_s):
        options = ["BatchMode=yes", "ConnectTimeout=10", "StrictHostKeyChecking=no",
                   "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]  # fmt: skip
        flags = [word for option in options for word in ("-o", option)]
        command = ["ssh", "-i", str(self._folder / "key"), "-p", str(self._port), *flags]
        try:
            done = subprocess.run(
                [*command, "root@127.0.0.1", script],
                input=data, capture_output=True, timeout=timeout_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired as exc:
            return subprocess.CompletedProcess(exc.cmd, 255, "", f"no end in {timeout_s:.0f} s")
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")
        )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
