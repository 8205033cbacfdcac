"""docs/protocol.md names every message, field, code, limit and step that the code has, and none that it has not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from cloudcore.cloudhub.link import MAX_TURN_WAIT_S
from cloudcore.kube import reviews
from cloudcore.valuestream import access, server, subscription
from corekit.errors import ProtocolError
from edgecore.edgehub.client import MAX_DELAY_S
from synccore import buckets, messages, targets, tunnels
from synccore.cloud_session import CloudSession
from synccore.edge_session import JOIN_HEARTBEAT_S, EdgeSession
from synccore.errors import STALE_DATABASE
from synccore.messages import Lane, Op, State
from synccore.pb import sync_pb2 as pb
from synccore.pb import values_pb2
from synccore.session import MAX_WAITING_MESSAGES, Session

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
# What a peer may say; each folder is searched for the codes that it can put into a Close.
SPEAKERS = ("synccore", "cloudcore/cloudhub", "edgecore/edgehub")
CODE = re.compile(r"[A-Z]+(_[A-Z]+)+|FORBIDDEN|DRAINING|SUPERSEDED")


def section(number):
    return re.split(r"^## \d+\. .*$", PAGE, flags=re.MULTILINE)[number]


def table(number):
    """The rows of a section's tables, without their heads."""
    rows = [
        line.strip("| ").split(" | ") for line in section(number).splitlines() if line[:1] == "|"
    ]
    return [row for row in rows if not set(row[0]) <= set("-|")]


def codes_on_the_page():
    return {code for row in table(6) for code in re.findall(r"`([A-Z_]+)`", row[0])}


def codes_in_the_code():
    """The class attribute `code` of every ProtocolError, and the first argument of refusals and closes."""
    found = set()
    for folder in SPEAKERS:
        for path in ROOT.joinpath(folder).rglob("*.py"):
            if "pb" not in path.parts:
                found |= set(_codes(ast.parse(path.read_text(encoding="utf-8"))))
    return found


def _codes(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(
            getattr(t, "id", "") == "code" for t in node.targets
        ):
            yield from _texts([node.value])
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("RefusedError", "close", "end", "end_all", "_close", "Close"):
                yield from _texts(node.args[:2])


def _texts(nodes):
    for node in nodes:
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and CODE.fullmatch(node.value)
        ):
            yield node.value
        elif (
            isinstance(node, ast.Name) and node.id == STALE_DATABASE
        ):  # a constant: the edge reacts to it
            yield node.id


def steps_on_the_page(column):
    """{state: message names} of the table in section 3; `Tunnel*` stands for those that end takes."""
    return {
        row[0]: set(row[column].split(", "))
        for row in table(3)
        if row[0] in {s.name for s in State}
    }


def steps_in_the_code(session):
    found = {}
    for state, kind in session._STEPS:
        name = "Tunnel*" if kind.__name__.startswith("Tunnel") else kind.__name__
        found.setdefault(state.name, set()).add(name)
    return found


def test_every_code_that_a_close_can_have_is_in_the_table_of_section_6():
    assert codes_in_the_code() == codes_on_the_page()


def test_every_protocol_error_has_a_code_of_its_own():
    """The root's `PROTOCOL` says nothing and is not on the page, so nobody may leave it at that."""
    kinds, waiting = [], [ProtocolError]
    while waiting:
        kinds += (found := waiting.pop().__subclasses__())
        waiting += found
    ours = [
        kind
        for kind in kinds
        if kind.__module__.split(".")[0] in ("synccore", "edgecore", "cloudcore")
    ]
    assert len(ours) >= 5
    assert {kind.code for kind in ours} <= codes_on_the_page()


@pytest.mark.parametrize("name", sorted(pb.DESCRIPTOR.message_types_by_name))
def test_every_message_of_the_proto_is_on_the_page(name):
    if name in ("EdgeMessage", "CloudMessage"):  # envelopes
        return
    assert re.search(rf"\b{name}\b", PAGE), f"{name} is not mentioned"


@pytest.mark.parametrize(
    "field",
    [
        f"{message}.{field.name}"
        for message in (
            *(
                "Hello",
                "Welcome",
                "Inventory",
                "Summary",
                "Wanted",
                "Frame",
                "Ack",
                "Pong",
                "Close",
                "Ask",
                "Answer",
            ),
        )
        for field in pb.DESCRIPTOR.message_types_by_name[message].fields
    ],
)
def test_every_field_of_what_is_said_at_joining_and_in_frames_is_on_the_page(field):
    assert f"`{field}`" in PAGE or f"`{field.partition('.')[2]}`" in PAGE


@pytest.mark.parametrize(
    "name",
    [
        name
        for kind in values_pb2.DESCRIPTOR.message_types_by_name.values()
        for name in (kind.name, *(field.name for field in kind.fields))
    ],
)
def test_every_message_and_field_of_the_value_stream_is_in_section_11(name):
    assert f"`{name}`" in section(11) or re.search(rf"\*\*{name}\*\*", section(11))


def test_every_code_that_ends_a_call_of_the_value_stream_is_in_section_11():
    source = (ROOT / "cloudcore" / "valuestream" / "server.py").read_text(encoding="utf-8")
    codes = set(re.findall(r"StatusCode\.([A-Z_]+)", source)) | {"RESOURCE_EXHAUSTED"}
    assert codes == set(re.findall(r"`([A-Z]+_[A-Z]+|UNAUTHENTICATED)`", section(11)))


def test_every_enum_value_is_on_the_page():
    lanes = re.search(r"\*\*Lanes\.\*\* ([A-Za-z, ]+)\.", PAGE)
    assert lanes is not None
    assert lanes[1].lower().split(", ") == [lane.name.lower() for lane in Lane]
    assert all(f"`{op.value}` {op.name.lower()}" in section(4) for op in Op)


@pytest.mark.parametrize(("column", "session"), [(1, EdgeSession), (2, CloudSession)])
def test_the_table_of_states_is_the_table_of_steps(column, session):
    assert issubclass(session, Session)
    assert steps_on_the_page(column) == steps_in_the_code(session)


@pytest.mark.parametrize(
    ("number", "limit", "words"),
    [
        (1, messages.MAX_FRAME_BYTES, "a batch at most {mib} MiB"),
        (2, 2 * JOIN_HEARTBEAT_S, "waits {n:.0f} seconds"),
        (3, messages.MAX_INVENTORY_PAGE_BYTES, "pages of at most {mib} MiB"),
        (3, messages.MAX_INVENTORY_BYTES, "{mib} MiB in all"),
        (6, MAX_WAITING_MESSAGES, "more than {n:,} other messages"),
        (6, MAX_TURN_WAIT_S, "a heartbeat, {n:.0f} seconds at most"),
        (6, MAX_DELAY_S, "{n:.0f} seconds at most), and after its back-off"),
        (3, buckets.MIN_SUMMARIZED, "more than {n} records"),
        (3, buckets.MIN_BUCKETS, "of them, {n} to"),
        (3, buckets.MAX_BUCKETS, "to {n:,}, about"),
        (3, buckets.BUCKET_RECORDS, "about {n} records to each"),
        (3, buckets.DIGEST_BYTES, "has {n} bytes for each bucket"),
        (7, tunnels.MAX_STREAMS, "At most {n} streams"),
        (7, tunnels.WINDOW_BYTES >> 10, "may send {n} KiB in each stream"),
        (7, tunnels.MAX_PIECE_BYTES >> 10, "1 byte to {n} KiB"),
        (7, tunnels.MAX_TARGET_BYTES, "at most {n:,} characters"),
        (7, tunnels.MAX_CONTROL, "where {n:,} of them wait"),
        (4, messages.BATCH_FORMAT, "its format: `{n}`"),
        (4, messages.MAX_DELTAS_PER_FRAME, "at most {n:,}"),
        (4, messages.MAX_TEXT_BYTES, "(at most {n})"),
        (10, messages.MAX_ASK_BYTES >> 10, "at most {n} KiB either way"),
        (10, messages.MAX_OUTSTANDING_ASKS, "At most {n} questions"),
        (10, messages.ASK_DEADLINE_S, "The deadline is {n:.0f} seconds"),
        (4, messages.MAX_BODY_BYTES, "(at most {mib} MiB)"),
        (11, server.MAX_DEVICES, "`devices`: 1 to {n} of"),
        (11, server.MAX_NEWEST, "`newest_count`, {n:,} at most"),
        (11, server.MAX_CALLS, "{n} calls are served at a time"),
        (11, server.RECHECK_S, "asked about again every {n:.0f} seconds"),
        (11, access.ALLOWED_TTL_S, "A yes holds for {n:.0f} seconds"),
        (11, reviews.DENIED_TTL_S, "a no for {n:.0f};"),
        (11, reviews.MAX_TOKEN_BYTES, "at most {n:,} characters"),
        (11, subscription.MAX_VALUES, "At most {n:,} values"),
        (11, subscription.MAX_BATCH_BYTES, "and about {mib} MiB"),
        (11, subscription.MAX_WAITING_BYTES, "bounded by {mib} MiB"),
    ],
)
def test_every_limit_on_the_page_is_the_code_s(number, limit, words):
    assert words.format(n=limit, mib=int(limit) >> 20) in " ".join(section(number).split())


def test_every_target_field_document_and_code_of_a_stream_is_on_the_page():
    rows = {row[0].strip("`"): row for row in table(7)}
    for target in (targets.Logs, targets.Exec, targets.PortForward, targets.Document):
        row = rows[target.__struct_config__.tag]
        assert set(target.__struct_encode_fields__) <= set(re.findall(r"`([A-Za-z]+)`", row[1]))
    assert targets.Attach.__struct_config__.tag in rows
    assert all(f"`{name}`" in rows["document"][1] for name in targets.DOCUMENTS)
    assert rows.keys() >= tunnels.CODES
