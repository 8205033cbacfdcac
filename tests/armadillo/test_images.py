"""OCI archives made from a static busybox."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest

from armadillo.images import BUSYBOX_IMAGE, LocalImage, local_images, write_archive
from corekit.errors import ConfigError

# The head of a 64-bit ELF file whose one program header is of `kind`.
ELF = b"\x7fELF\x02\x01\x01" + b"\0" * 25 + (64).to_bytes(8, "little") + b"\0" * 14


def elf(kind):
    header = ELF + (56).to_bytes(2, "little") + (1).to_bytes(2, "little")
    return header.ljust(64, b"\0") + kind.to_bytes(4, "little") + b"\0" * 52


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "busybox"
    path.write_bytes(elf(1))
    return path


def test_an_archive_holds_what_its_index_names(tmp_path, program):
    image = LocalImage("example.org/x:1", ("sh",), ("sh", "ls"))
    write_archive(tmp_path / "a.tar", [image], program)
    with tarfile.open(tmp_path / "a.tar") as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}
    for name, content in files.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"] == {"io.containerd.image.name": "example.org/x:1"}
    manifest = json.loads(blob(files, entry))
    config = json.loads(blob(files, manifest["config"]))
    assert config["config"]["Cmd"] == ["sh"]
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    with tarfile.open(fileobj=io.BytesIO(blob(files, manifest["layers"][0]))) as layer:
        assert layer.getmember("bin/busybox").mode == 0o755
        assert layer.getmember("bin/ls").linkname == "busybox"
        assert layer.getmember("tmp").mode == 0o1777


def blob(files, entry):
    content = files["blobs/" + entry["digest"].replace(":", "/")]
    assert len(content) == entry["size"]
    return content


def test_the_same_input_gives_the_same_bytes(tmp_path, program):
    image = LocalImage("example.org/x:1", ("sh",), ("sh",))
    for name in ("a.tar", "b.tar"):
        write_archive(tmp_path / name, [image], program)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_program_that_needs_libraries_is_refused(tmp_path):
    path = tmp_path / "busybox"
    path.write_bytes(elf(3))
    with pytest.raises(ConfigError, match="is not a static program: install busybox-static"):
        local_images(path)


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", elf(1)[:66]], ids=["empty", "script", "cut-short"]
)
def test_what_is_no_program_is_refused(tmp_path, content):
    path = tmp_path / "busybox"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"busybox-static"):
        local_images(path)


def test_a_missing_busybox_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"no-busybox: No such file.*install busybox-static"):
        local_images(tmp_path / "no-busybox")


@pytest.mark.containerd
def test_the_local_images_have_busyboxs_commands():
    pause, busybox = local_images()
    assert set(pause.applets) == {"sh", "sleep"}
    assert busybox.name == BUSYBOX_IMAGE
    assert {"sh", "cat", "httpd"} <= set(busybox.applets)
