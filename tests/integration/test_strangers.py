"""Who reaches the hub's port without a certificate: gets nothing, holds nothing for long, and writes nothing to the log."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.integration.test_sync_stream import Cloud, Site, edge, running, until

pytestmark = pytest.mark.timeout(60)

# A process of its own: gRPC reads how much it may write once, when it is first imported.
DIALLED_BY_STRANGERS = """
import asyncio, ssl, sys
from pathlib import Path
import cloudcore.app
from tests.integration.test_strangers import dial_without_certificate
from tests.integration.test_sync_stream import Cloud, Site, running

async def main():
    site = Site(Path(sys.argv[1]))
    async with running(Cloud(site).hub):
        for _ in range(3):
            assert not await dial_without_certificate(site.port)

asyncio.run(main())
"""


async def dial_without_certificate(port):
    """Return what the server says after its handshake: nothing, as it hangs up."""
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.set_alpn_protocols(["h2"])
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        writer.write(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0")
        said = await reader.read(100)
        writer.close()
    except (ConnectionError, ssl.SSLError):
        return b""
    return said


async def test_strangers_write_nothing_to_the_log(tmp_path):
    command = [sys.executable, "-c", DIALLED_BY_STRANGERS, str(tmp_path)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_who_says_nothing_is_let_go_and_nodes_come_in_beside_it(tmp_path):
    site = Site(tmp_path)
    site.cloud = replace(site.cloud, handshake_timeout_s=2.0)
    cloud = Cloud(site)
    async with running(cloud.hub):
        silent = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(50)]
        store, hub = edge(site)
        async with running(store, hub):
            await until(lambda: hub.connected)
        # Its end comes from the other side: nobody keeps half a handshake for ever.
        said = await asyncio.gather(
            *(reader.read(1) for reader, _ in silent), return_exceptions=True
        )
        assert all(one == b"" or isinstance(one, ConnectionError) for one in said)
        for _, writer in silent:
            writer.close()
