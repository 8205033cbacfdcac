"""Bodies in protobuf, against the vectors that Kubernetes publishes and against anything else."""

import base64
import gzip
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore.schema.protobuf import MAGIC, MAX_VALUES, ProtobufError, decode_protobuf

VECTORS = json.loads(
    gzip.decompress((Path(__file__).parent / "vectors-1.32.json.gz").read_bytes()).decode()
)


def vector(name):
    return base64.b64decode(VECTORS[name]["protobuf"])


def without_nulls(value):
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return [without_nulls(v) for v in value] if isinstance(value, list) else value


def field(number, content):
    """One field of a message: bytes, or a number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number):
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def body(api_version, kind, content):
    types = field(1, api_version.encode()) + field(2, kind.encode())
    return MAGIC + field(1, types) + field(2, content)


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_a_published_vector_decodes_to_its_published_json(name):
    assert decode_protobuf(vector(name)) == without_nulls(VECTORS[name]["json"])


def test_a_zero_is_kept_where_go_has_a_pointer_and_dropped_where_it_has_none():
    spec = field(4, 0) + field(5, 0) + field(11, 0)  # hostNetwork is no pointer
    pod = decode_protobuf(body("v1", "Pod", field(2, spec)))
    assert pod["spec"] == {"terminationGracePeriodSeconds": 0, "activeDeadlineSeconds": 0}


def test_a_negative_number_comes_back_negative():
    pod = decode_protobuf(body("v1", "Pod", field(2, field(25, (1 << 64) - 7))))
    assert pod["spec"] == {"priority": -7}


def test_options_of_a_delete_are_known_in_every_group():
    options = decode_protobuf(body("policy/v1", "DeleteOptions", field(1, 0)))
    assert options["gracePeriodSeconds"] == 0


def test_a_field_of_a_newer_release_is_ignored():
    assert "data" not in decode_protobuf(body("v1", "ConfigMap", field(15, b"new")))


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        pytest.param(b"{}", "does not start with", id="json"),
        pytest.param(body("v1", "Nothing", b""), "as JSON only", id="unknown-kind"),
        pytest.param(MAGIC + b"\x0a\x7f", "truncated", id="truncated"),
        pytest.param(body("v1", "ConfigMap", b"\x0b"), "wire type 3", id="group"),
        pytest.param(body("v1", "ConfigMap", field(1, b"\xff" * 11)), "64 bits", id="varint"),
        pytest.param(body("v1", "ConfigMap", field(1, field(1, b"\xff"))), "UTF-8", id="text"),
        pytest.param(body("v1", "ConfigMap", field(1, 5)), "a number stands", id="number"),
        pytest.param(body("v1", "Pod", field(2, field(4, b"x"))), "is no number", id="no-number"),
    ],
)
def test_a_malformed_body_is_refused_with_its_reason(raw, problem):
    with pytest.raises(ProtobufError, match=problem):
        decode_protobuf(raw)


@pytest.mark.timeout(20)
def test_a_body_of_countless_empty_messages_is_refused():
    spec = field(2, b"") * (MAX_VALUES + 1)
    with pytest.raises(ProtobufError, match=f"more than {MAX_VALUES} values"):
        decode_protobuf(body("v1", "Pod", field(2, spec)))


def test_json_nested_without_end_is_refused():
    deep = b"[" * 5000 + b"]" * 5000
    entry = field(17, field(7, field(1, deep)))
    with pytest.raises(ProtobufError, match="JSON in it cannot be read"):
        decode_protobuf(body("v1", "ConfigMap", field(1, entry)))


@given(st.sampled_from(sorted(VECTORS)), st.data())
def test_a_damaged_body_is_taken_or_refused(name, data):
    raw = bytearray(vector(name))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(4, len(raw) - 1))] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.integers(4, len(raw))) :]
    with suppress(ProtobufError):
        json.dumps(decode_protobuf(bytes(raw)), allow_nan=False)


@given(st.binary(max_size=64))
def test_any_bytes_are_taken_or_refused(raw):
    for whole in (raw, MAGIC + raw, body("v1", "Pod", raw)):
        with suppress(ProtobufError):
            decode_protobuf(whole)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=5))
def test_what_is_written_is_read(texts):
    entries = b"".join(
        field(2, field(1, k.encode()) + field(2, v.encode())) for k, v in texts.items()
    )
    assert decode_protobuf(body("v1", "ConfigMap", entries)).get("data", {}) == texts
