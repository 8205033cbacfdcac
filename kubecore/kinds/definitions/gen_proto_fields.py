"""Maintenance script: write `proto-1.32.json.gz`, the protobuf field numbers of the Kubernetes API.

Run it by hand when the Kubernetes version moves; kubecore itself only reads the result. The sources are Debian's
source packages, for example those of trixie (0.32):

    apt-get source golang-k8s-api golang-k8s-apimachinery
    python -m kubecore.kinds.definitions.gen_proto_fields FOLDER_OF_API FOLDER_OF_APIMACHINERY

Numbers and types come from each package's `generated.proto`; what JSON calls a field, and what Go does with a
zero, from the struct tags beside it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path

RELEASE = "1.32"
_UNSTABLE = re.compile(r"\.v\d+(alpha|beta)\d+$")
_MESSAGE = re.compile(r"^message (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^ +(optional|repeated) ([.\w]+) (\w+) = (\d+);", re.MULTILINE)
_MAP = re.compile(r"^ +map<string, ([.\w]+)> (\w+) = (\d+);", re.MULTILINE)
_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_TAG = re.compile(r'^\s+(?:\w+\s+)?(\S+)\s+`json:"([^"]*)"[^`]*? protobuf:"\w+,(\d+)', re.MULTILINE)
_GROUP = re.compile(r'^const GroupName = "([^"]*)"', re.MULTILINE)
_SCALARS = frozenset({"string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "double"})


@dataclass(frozen=True)
class _Tag:
    """How Go and JSON treat one field."""

    pointer: bool
    name: str
    options: tuple[str, ...]

    @classmethod
    def of(cls, go_type: str, json_tag: str) -> _Tag:
        name, *options = json_tag.split(",")
        return cls(go_type.startswith("*"), name, tuple(options))


def main() -> None:
    """Read the unpacked sources at the given folders and write the data file beside this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("api", type=Path)
    parser.add_argument("apimachinery", type=Path)
    args = parser.parse_args()
    messages: dict[str, list[str]] = {}
    groups: dict[str, str] = {}
    for root in (args.api, args.apimachinery):
        for proto in sorted(root.rglob("generated.proto")):
            _read_package(proto, messages, groups)
    table = {"groups": groups, "messages": {k: "\n".join(v) for k, v in messages.items()}}
    text = json.dumps(table, sort_keys=True, separators=(",", ":")).encode()
    # mtime 0: the same input gives the same file, so a rerun shows as no change.
    target = Path(__file__).with_name(f"proto-{RELEASE}.json.gz")
    target.write_bytes(gzip.compress(text, 9, mtime=0))


def _read_package(proto: Path, messages: dict[str, list[str]], groups: dict[str, str]) -> None:
    text = re.sub(r"^\s*//.*\n", "", proto.read_text(), flags=re.MULTILINE)
    found = re.search(r"^package k8s\.io\.([.\w]+);", text, re.MULTILINE)
    assert found, proto
    package = found[1]
    if _UNSTABLE.search(package) or package.endswith("testapigroup.v1"):
        return
    tags = _tags(proto.parent)
    for name, body in _MESSAGE.findall(text):
        messages[f"{package}.{name}"] = _fields(package, body, tags.get(name, {}))
    register = proto.with_name("register.go")
    if register.exists() and (group := _GROUP.search(register.read_text())):
        version = package.rpartition(".")[2]
        groups[f"{group[1]}/{version}".lstrip("/")] = package


def _tags(folder: Path) -> dict[str, dict[int, _Tag]]:
    """Return the struct tags of a Go package: struct name to field number to tag."""
    found: dict[str, dict[int, _Tag]] = {}
    for source in folder.glob("*.go"):
        if source.name.endswith(("_test.go", ".pb.go")):
            continue
        for name, body in _STRUCT.findall(source.read_text()):
            tags = {int(number): _Tag.of(kind, tag) for kind, tag, number in _TAG.findall(body)}
            if tags:
                found[name] = tags
    return found


def _fields(package: str, body: str, tags: dict[int, _Tag]) -> list[str]:
    """Return one line for each field: number, JSON name, type, flags.

    Shapes:  flags: r repeated, m map from string, i its members belong to the parent, z left out by Go if zero.
    """
    lines = [
        _line(int(number), name, _type(package, kind), "r" if label == "repeated" else "", tags)
        for label, kind, name, number in _FIELD.findall(body)
    ]
    lines += [
        _line(int(number), name, _type(package, kind), "m", tags)
        for kind, name, number in _MAP.findall(body)
    ]
    return sorted(lines, key=lambda line: int(line.split()[0]))


def _line(number: int, name: str, kind: str, flags: str, tags: dict[int, _Tag]) -> str:
    tag = tags.get(number, _Tag(pointer=True, name=name, options=()))
    if "inline" in tag.options:
        flags += "i"
    elif not flags and not tag.pointer and "omitempty" in tag.options:
        flags += "z"
    return f"{number} {tag.name or name} {kind} {flags}".strip()


def _type(package: str, kind: str) -> str:
    if kind in _SCALARS:
        return kind
    if kind.startswith((".", "k8s.io.")):
        return "." + kind.lstrip(".").removeprefix("k8s.io.")
    return f".{package}.{kind}"


if __name__ == "__main__":
    main()
