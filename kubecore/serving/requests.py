"""What comes with a request, read from its query, headers and body; nothing is decided here."""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec
from aiohttp import web

from corekit.yamltext import YamlError, parse_yaml
from kubecore.errors import ApiStatusError, bad_request, unsupported_media
from kubecore.schema.protobuf import ProtobufError, decode_protobuf

# As Kubernetes. An object near it is a mistake, and etcd-backed clusters would refuse it at half of this.
MAX_BODY_BYTES = 3 << 20
PROTOBUF = "application/vnd.kubernetes.protobuf"
# YAML is parsed at a fiftieth of JSON's speed, in the one thread that serves everybody.
MAX_YAML_BYTES = 256 << 10


class Form(Enum):
    """How the client wants objects shown."""

    OBJECT = "object"
    TABLE = "Table"
    PARTIAL = "PartialObjectMetadata"


def number(request: web.Request, name: str, default: int = 0) -> int:
    """Return a whole number, not negative, of the query.

    Raises:  ApiStatusError 400.
    """
    text = request.query.get(name, "")
    if not text:
        return default
    # 19 digits: what fits a 64-bit number; more would be an attack on the parser, not a number.
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise bad_request(f"{name}: {text[:40]!r} is not a whole number of 0 or more")
    return int(text)


def form_of(request: web.Request) -> Form:
    """Return the first form in Accept that is served.

    Raises:  ApiStatusError 406: none is.
    """
    accept = ",".join(request.headers.getall("Accept", ["*/*"]))
    for entry in accept.split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        wanted = dict(p.partition("=")[::2] for p in parameters)
        if media not in ("application/json", "*/*", "application/*"):
            continue
        shape = wanted.get("as", "")
        if not shape:
            return Form.OBJECT
        if shape in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
            return Form(shape.removesuffix("List"))
    raise ApiStatusError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json "
        f"(Accept was {accept[:200]!r})",
    )


async def body_of(request: web.Request) -> Any:
    """Return the decoded body of a write; None if it is empty.

    Raises:  ApiStatusError 400: malformed; 413: too large; 415: a form that is not served.
    """
    media = request.content_type if "Content-Type" in request.headers else "application/json"
    if media == "application/apply-patch+yaml":
        raise unsupported_media(
            "server-side apply is not served yet; `kubectl apply` without --server-side works"
        )
    if media == "application/cbor":
        raise unsupported_media("request bodies in CBOR are not served; send application/json")
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge as exc:
        problem = f"Request entity too large: limit is {MAX_BODY_BYTES}"
        raise ApiStatusError(413, "RequestEntityTooLarge", problem) from exc
    return decode_body(media, raw)


def decode_body(media: str, raw: bytes) -> Any:
    """Return a JSON, YAML or protobuf body decoded; None if it is empty.

    Raises:  ApiStatusError 400: malformed; 413: too much YAML.
    """
    if not raw:
        return None
    if media.endswith("yaml"):
        return _from_yaml(raw)
    if media == PROTOBUF:
        return _from_protobuf(raw)
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise bad_request(f"the body is not JSON: {exc}") from exc


def _from_protobuf(raw: bytes) -> Any:
    try:
        return decode_protobuf(raw)
    except ProtobufError as exc:
        raise bad_request(f"the body cannot be read as {PROTOBUF}: {exc}") from exc


def _from_yaml(raw: bytes) -> Any:
    if len(raw) > MAX_YAML_BYTES:
        problem = f"Request entity too large: limit of a YAML body is {MAX_YAML_BYTES}; send JSON"
        raise ApiStatusError(413, "RequestEntityTooLarge", problem)
    try:
        tree = parse_yaml(raw, aliases=False)
    except YamlError as exc:
        raise bad_request(f"the body {exc}") from exc
    try:
        # Through JSON: what YAML alone has (keys that are numbers, sets, bytes, infinity) goes no further.
        return msgspec.json.decode(msgspec.json.encode(tree))
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as exc:
        raise bad_request(f"the body is YAML that JSON cannot say: {exc}") from exc
