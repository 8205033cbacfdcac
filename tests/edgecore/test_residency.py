"""What the start touched in program files is given back, nothing that was written is, and everything works on."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecore.residency import Mapping, is_reloadable, mappings

LIBRARY = Mapping(0x1000, 0x3000, "r-xp", "/usr/lib/lib x.so", 8, 0)
SMAPS = """\
00001000-00003000 r-xp 00000000 fe:00 1234                               /usr/lib/lib x.so
Size:                  8 kB
Rss:                   8 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
7f0000000000-7f0000021000 rw-p 00000000 00:00 0
Rss:                 100 kB
Anonymous:           100 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
Rss:                   0 kB
"""


def test_mappings_are_read_with_their_files_and_sizes():
    found = list(mappings(SMAPS.splitlines()))
    assert found[0] == LIBRARY
    assert [(m.permissions, m.file, m.rss_kib, m.anonymous_kib) for m in found[1:]] == [
        ("rw-p", "", 100, 100),
        ("--xp", "[vsyscall]", 0, 0),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"permissions": "rw-p"},
        {"permissions": "r-xs"},
        {"permissions": "---p"},
        {"file": ""},
        {"file": "[heap]"},
        {"file": "/usr/lib/lib.so (deleted)"},
        {"anonymous_kib": 4},  # relocated: its content is in no file
        {"rss_kib": 0},
    ],
)
def test_only_clean_pages_of_files_that_are_there_are_given_back(change):
    assert is_reloadable(LIBRARY)
    assert not is_reloadable(LIBRARY._replace(**change))


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="\n"), max_size=40)))
def test_lines_that_nobody_expects_give_no_mapping_that_is_given_back(lines):
    try:
        found = list(mappings([line for line in lines if line.strip()]))
    except (ValueError, IndexError):
        return  # not a text of the kernel's
    assert not any(is_reloadable(mapping) for mapping in found)


USES_EVERYTHING = """
import asyncio, gc, hashlib, json, sqlite3, ssl, sys
import grpc, msgspec, uvloop, sqlalchemy
from synccore.codec import encode_batch, decode_batch
from synccore.messages import Delta, ObjectKey, Op
from edgecore.residency import give_back

def rss_kib():
    return int(open("/proc/self/statm").read().split()[1]) * 4

def work():
    ssl.create_default_context()
    deltas = [Delta(Op.UPSERT, ObjectKey("Pod", "d", "x"), "u", 1, body=b"{}")]
    assert decode_batch(encode_batch(deltas)) == deltas
    assert sqlite3.connect(":memory:").execute("select sqlite_version()").fetchone()
    assert sqlalchemy.create_engine("sqlite://").connect().exec_driver_sql("select 1").scalar() == 1
    assert msgspec.json.decode(msgspec.json.encode({"a": [1, 2.5, "x"]})) == {"a": [1, 2.5, "x"]}

    async def serve():
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
        await server.stop(None)

    uvloop.run(serve())
    gc.collect()

work()
before = rss_kib()
given = give_back() >> 10
after = rss_kib()
for _ in range(2):
    work()
    assert give_back() > 0
print(given, before - after)
"""


@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_a_process_works_on_after_its_pages_were_given_back():
    done = subprocess.run(
        [sys.executable, "-c", USES_EVERYTHING], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    given_kib, less_kib = map(int, done.stdout.split())
    assert given_kib > 4096
    assert less_kib > given_kib // 2
