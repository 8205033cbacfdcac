import json
import struct

import aiohttp
import msgspec
import pytest
from aiohttp import test_utils, web

from kubecore.access.accounts import Accounts
from kubecore.access.target import target_of
from kubecore.documents.openapi import v2_document
from kubecore.documents.openapi_v2 import PROTOBUF_TYPE, accepted_form, as_v2
from kubecore.documents.openapi_wire import encode_document
from kubecore.errors import ApiStatusError
from kubecore.kinds.registry import Registry
from kubecore.serving.answers import error_answer
from kubecore.serving.api_documents import DocumentApi
from kubecore.settings import AccountSettings
from kubecore.storage.store import Store
from tests.kubecore.samples import device_crd

CORE = "io.k8s.api.core.v1."
DEVICE = "io.kubeedge.devices.v1beta1.Device"
DEVICE_PATH = "/apis/devices.kubeedge.io/v1beta1/namespaces/{namespace}/devices/{name}"


@pytest.fixture
def registry():
    made = Registry()
    made.install_crd(device_crd())
    return made


@pytest.fixture
def document(registry):
    return json.loads(v2_document(registry, "json").body)


def read(raw):
    """Return the fields of one protobuf message as {number: [value, ...]}."""
    found, pos = {}, 0

    def varint():
        nonlocal pos
        value, shift = 0, 0
        while True:
            byte = raw[pos]
            pos += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while pos < len(raw):
        number, wire = divmod(varint(), 8)
        if wire == 0:
            value = varint()
        else:
            assert wire in (1, 2)
            length = 8 if wire == 1 else varint()
            value = raw[pos : pos + length]
            assert len(value) == length
            pos += length
        found.setdefault(number, []).append(value)
    return found


def only(fields, *numbers):
    """Return what lies at a path of field numbers, each of which is there once."""
    for number in numbers:
        fields = read(fields) if isinstance(fields, bytes) else fields
        (fields,) = fields[number]
    return fields


def by_name(entries):
    """Return a gnostic map as a dict of encoded values."""
    return {only(entry, 1).decode(): only(entry, 2) for entry in entries}


def extensions(fields, number):
    return {
        name: msgspec.json.decode(only(value, 2)) for name, value in by_name(fields[number]).items()
    }


def wire_of(registry):
    return read(v2_document(registry, "protobuf").body)


def test_the_bytes_are_those_of_the_message():
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"maximum": 2, "enum": [1]}}}
    found = encode_document({"swagger": "2.0", "definitions": {"D": schema | {"x-k": [True]}}})
    a = b"\x39" + struct.pack("<d", 2.0) + b"\xa2\x01\x03\x12\x011"
    properties = b"\x0a\x14\x0a\x01a\x12\x0f" + a
    body = b"\xb2\x01\x08\x0a\x06object" + b"\x9a\x01\x01a" + b"\xca\x01\x16" + properties
    body += b"\xfa\x01\x0f\x0a\x03x-k\x12\x08\x12\x06[true]"
    named = b"\x0a\x01D\x12" + bytes([len(body)]) + body
    inner = b"\x0a" + bytes([len(named)]) + named
    assert found == b"\x0a\x032.0\x4a" + bytes([len(inner)]) + inner


def test_numbers_that_no_field_can_hold_are_bounded():
    node = {"maximum": 10**400, "minimum": -(10**400), "maxLength": -1}
    found = read(only(encode_document({"definitions": {"D": node}}), 9, 1, 2))
    assert struct.unpack("<d", found[7][0])[0] == -struct.unpack("<d", found[9][0])[0] > 1e308
    assert found[11] == [2**64 - 1]


def test_both_forms_hold_the_same_definitions_and_paths(registry, document):
    wire = wire_of(registry)
    assert wire[1] == [b"2.0"]
    assert by_name(read(wire[9][0])[1]).keys() == document["definitions"].keys()
    assert by_name(read(wire[8][0])[2]).keys() == document["paths"].keys()
    assert {CORE + "Pod", CORE + "PodList", DEVICE} <= document["definitions"].keys()


def test_every_reference_is_defined(document):
    def references(node):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"].removeprefix("#/definitions/")
            node = list(node.values())
        for child in node if isinstance(node, list) else ():
            yield from references(child)

    assert set(references(document)) <= document["definitions"].keys()


def test_kubectl_finds_kinds_and_merge_rules(registry):
    definitions = by_name(_definitions(registry))
    pod = read(definitions[CORE + "Pod"])
    kind = {"group": "", "kind": "Pod", "version": "v1"}
    assert extensions(pod, 31) == {"x-kubernetes-group-version-kind": [kind]}
    spec = read(definitions[CORE + "PodSpec"])
    assert spec[19] == [b"containers"]
    fields = by_name(read(spec[25][0])[1])
    containers = read(fields["containers"])
    assert only(containers[22][0], 1) == b"array"
    assert only(containers[23][0], 1, 1).decode() == f"#/definitions/{CORE}Container"
    assert extensions(containers, 31) == {
        "x-kubernetes-list-map-keys": ["name"],
        "x-kubernetes-list-type": "map",
        "x-kubernetes-patch-merge-key": "name",
        "x-kubernetes-patch-strategy": "merge",
    }
    labels = by_name(read(read(_meta(definitions))[25][0])[1])["labels"]
    assert only(labels, 21, 1, 22, 1) == b"string"


def _definitions(registry):
    return read(wire_of(registry)[9][0])[1]


def _meta(definitions):
    return definitions["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (
            "/api/v1/namespaces/{namespace}/pods/{name}",
            {"group": "", "version": "v1", "kind": "Pod"},
        ),
        (
            DEVICE_PATH,
            {"group": "devices.kubeedge.io", "version": "v1beta1", "kind": "Device"},
        ),
    ],
)
def test_kubectl_finds_field_validation_of_every_patch(registry, path, kind):
    item = read(by_name(read(wire_of(registry)[8][0])[2])[path])
    patch = read(item[8][0])
    assert extensions(patch, 13) == {
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": kind,
    }
    parameters = [read(only(one, 1)) for one in patch[8]]
    query = [only(p[2][0], 3, 4).decode() for p in parameters if 2 in p]
    assert query == ["dryRun", "fieldManager", "fieldValidation"]
    assert only(parameters[-1][1][0], 2) == b"body"
    assert b"application/merge-patch+json" in patch[7]
    assert [only(one, 1, 2, 4, 4) for one in item[9]] == [b"namespace", b"name"]


def test_what_version_2_cannot_say_is_left_open(document):
    definitions = document["definitions"]
    spec = definitions[DEVICE]["properties"]["spec"]["properties"]
    assert spec["port"] == {"x-kubernetes-int-or-string": True}
    assert spec["note"] == {}
    assert spec["config"] == {"x-kubernetes-preserve-unknown-fields": True}
    assert spec["choice"].keys() == {"type", "properties"}
    assert spec["mode"] == {"type": "string", "enum": ["auto", "manual"]}
    assert definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] == {
        "type": "string",
        "format": "int-or-string",
    }
    assert definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] == {"type": "string"}
    assert definitions[DEVICE]["properties"]["metadata"]["$ref"].endswith(".ObjectMeta")


def test_an_all_of_in_a_crd_refers_to_nothing():
    node = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "allOf": [{"$ref": "#/nowhere"}]},
            "b": {"type": "string", "allOf": []},
        },
    }
    v3 = {"info": {}, "paths": {}, "components": {"schemas": {"D": node}}}
    plain = {"type": "string"}
    assert as_v2([v3])["definitions"]["D"]["properties"] == {"a": plain, "b": plain}


def test_the_document_is_made_once_and_again_when_a_crd_changes(registry):
    first = v2_document(registry, "protobuf")
    assert v2_document(registry, "protobuf") is first
    registry.remove_crd("devices.devices.kubeedge.io")
    second = v2_document(registry, "protobuf")
    assert second.etag != first.etag
    assert DEVICE.encode() not in second.body


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "protobuf"),
        (PROTOBUF_TYPE + ", application/json", "protobuf"),
        ("text/html, application/json;q=0.5", "json"),
        ("text/html", None),
    ],
)
def test_the_first_form_that_is_served_is_chosen(accept, form):
    assert accepted_form(accept) == form


async def test_it_is_served_with_an_etag_and_not_sent_twice(registry, tmp_path):
    store = Store(tmp_path / "kubecore.db")
    documents = DocumentApi(registry, Accounts(AccountSettings(), store, registry, tmp_path / "k"))

    async def serve(request):
        try:
            return documents.serve(request, target_of(request))
        except ApiStatusError as exc:
            return error_answer(exc)

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    async with test_utils.TestServer(app) as server, aiohttp.ClientSession() as session:
        url = server.make_url("/openapi/v2")
        async with session.get(url, headers={"Accept": PROTOBUF_TYPE}) as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (200, PROTOBUF_TYPE)
            assert answer.headers["Vary"] == "Accept"
            assert await answer.read() == v2_document(registry, "protobuf").body
            etag = answer.headers["ETag"]
        known = {"Accept": PROTOBUF_TYPE, "If-None-Match": etag}
        async with session.get(url, headers=known) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        async with session.get(url, headers={"If-None-Match": etag}) as answer:
            assert (answer.status, answer.content_type) == (200, "application/json")
            assert (await answer.json())["swagger"] == "2.0"
        async with session.get(url, headers={"Accept": "text/html"}) as answer:
            assert answer.status == 406
            assert "'text/html'" in (await answer.json())["message"]
        async with session.get(server.make_url("/openapi/v2/more")) as answer:
            assert answer.status == 404
