"""Container images made on this machine, for nodes without a registry: OCI archives around a static busybox.

Owns what lies in such an image; `armadillo.containerd` imports it. Knows nothing of pods.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import struct
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corekit.errors import ConfigError

BUSYBOX = Path("/bin/busybox")
BUSYBOX_IMAGE = "docker.io/library/busybox:latest"
PAUSE_IMAGE = "armadillo.local/pause:1"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class LocalImage:
    """An image to be made here.

    Shapes:  applets: busybox commands to link, each as `/bin/<applet>`.
    """

    name: str
    command: Sequence[str]
    applets: Sequence[str]


def local_images(busybox: Path = BUSYBOX) -> list[LocalImage]:
    """Return the images that every node needs: a sandbox's pause image and busybox.

    Raises:  ConfigError: busybox is missing or not static.
    """
    _require_static(busybox)
    listing = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    applets = [applet for applet in listing.stdout.split() if applet != "busybox"]
    return [
        # A shell that waits takes SIGTERM at once as process 1, where plain `sleep` would ignore it.
        LocalImage(
            PAUSE_IMAGE,
            ("/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 2147483647 & wait; done"),
            ("sh", "sleep"),
        ),
        LocalImage(BUSYBOX_IMAGE, ("sh",), applets),
    ]


def write_archive(path: Path, images: Sequence[LocalImage], busybox: Path = BUSYBOX) -> None:
    """Write one OCI archive with `images` to `path`; the same input gives the same bytes.

    Source:  OCI image-spec v1 "Image Layout"; containerd reads `io.containerd.image.name`.
    """
    program = busybox.read_bytes()
    blobs: dict[str, bytes] = {}
    entries = [_add_image(blobs, image, program) for image in images]
    index = {"schemaVersion": 2, "manifests": entries}
    part = path.with_name(path.name + ".part")
    with tarfile.open(part, "w") as archive:
        _add_file(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add_file(archive, "index.json", json.dumps(index).encode())
        for digest, content in blobs.items():
            _add_file(archive, f"blobs/sha256/{digest}", content)
    part.replace(path)


def _add_image(blobs: dict[str, bytes], image: LocalImage, program: bytes) -> dict[str, object]:
    layer = _layer(image.applets, program)
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Env": [_PATH], "Cmd": list(image.command), "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_digest(layer)}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": _add_blob(blobs, _CONFIG_TYPE, json.dumps(config).encode()),
        "layers": [_add_blob(blobs, _LAYER_TYPE, layer)],
    }
    entry = _add_blob(blobs, _MANIFEST_TYPE, json.dumps(manifest).encode())
    return {**entry, "annotations": {"io.containerd.image.name": image.name}}


def _layer(applets: Sequence[str], program: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            layer.addfile(entry)
        _add_file(layer, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        _add_file(layer, "etc/group", b"root:x:0:\n")
        _add_file(layer, "bin/busybox", program, mode=0o755)
        for applet in applets:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            layer.addfile(entry)
    return buffer.getvalue()


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _add_blob(blobs: dict[str, bytes], media_type: str, content: bytes) -> dict[str, object]:
    digest = _digest(content)
    blobs[digest] = content
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _require_static(busybox: Path) -> None:
    try:
        with busybox.open("rb") as program:
            head = program.read(4096)
    except OSError as exc:
        raise ConfigError(str(busybox), "", f"{exc.strerror}: install busybox-static") from exc
    if not _is_static(head):
        # Debian's plain `busybox` package installs to the same path and needs libc, which no image has.
        raise ConfigError(str(busybox), "", "is not a static program: install busybox-static")


def _is_static(head: bytes) -> bool:
    """Return whether an ELF file that starts with `head` names no program interpreter (PT_INTERP)."""
    if len(head) < 64 or head[:4] != b"\x7fELF":
        return False
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    (start,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
    size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    for number in range(count):
        at = start + number * size
        if at + 4 > len(head):
            return False
        if struct.unpack_from(order + "I", head, at)[0] == 3:  # PT_INTERP
            return False
    return True
