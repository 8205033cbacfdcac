"""Certificates that end, or do not count yet: the log says which one it is, and the link comes back by itself."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.fakes.cloud import FakeSource
from tests.integration.test_sync_stream import Cloud, Site, edge, running, until

pytestmark = pytest.mark.timeout(30)

DAY = dt.timedelta(days=1)


def sign_again(site, name, since, until_):
    """Give the certificate `name` another validity, counted from now; return its old content."""
    path = site.folder / f"{name}.crt"
    before = path.read_bytes()
    old = x509.load_pem_x509_certificate(before)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until_)
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    key = serialization.load_pem_private_key(site.authority.pair.key_file.read_bytes(), None)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return before


@pytest.fixture
async def site(tmp_path):
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("since", "until_", "said"),
    [
        pytest.param(-2 * DAY, -DAY, "this node's certificate ended at ", id="ended"),
        pytest.param(DAY, 2 * DAY, "and this node's certificate begins at ", id="not-yet"),
    ],
)
async def test_a_nodes_certificate_that_does_not_count_is_named_and_a_new_one_is_taken(
    site, since, until_, said, caplog
):
    cloud = Cloud(site)
    store, hub = edge(site)
    good = sign_again(site, "node-edge-1", since, until_)
    async with running(cloud.hub, store, hub):
        await until(lambda: said in caplog.text)
        (site.folder / "node-edge-1.crt").write_bytes(good)  # renewed, and nothing is restarted
        await until(lambda: hub.connected)
    assert caplog.text.count(said) == 1


@pytest.mark.parametrize(
    ("since", "until_", "said"),
    [
        pytest.param(-2 * DAY, -DAY, "certificate has expired (it is 2", id="ended"),
        pytest.param(DAY, 2 * DAY, "certificate is not yet valid (it is 2", id="not-yet"),
    ],
)
async def test_the_clouds_certificate_that_does_not_count_is_named(
    site, since, until_, said, caplog
):
    sign_again(site, "cloudcore", since, until_)
    cloud = Cloud(site)
    store, hub = edge(site)
    async with running(cloud.hub, store, hub):
        await until(lambda: f"cloudcore's certificate is not taken: {said}" in caplog.text)


async def test_a_refusal_after_a_lost_link_is_a_line_of_its_own(site, caplog):
    store, hub = edge(site)
    (site.folder / "node-edge-1.crt").write_bytes((site.folder / "cloudcore.crt").read_bytes())
    (site.folder / "node-edge-1.key").write_bytes((site.folder / "cloudcore.key").read_bytes())
    async with running(store, hub):
        await until(lambda: "no link to cloudcore: UNAVAILABLE" in caplog.text)
        async with running(Cloud(site).hub):
            refused = "no link to cloudcore: PERMISSION_DENIED: the client certificate's CN must be"
            await until(lambda: refused in caplog.text)


async def test_a_renewed_certificate_of_the_cloud_is_used_and_nobody_is_cut(site, caplog):
    caplog.set_level("INFO")
    sign_again(site, "cloudcore", -2 * DAY, DAY)
    cloud = Cloud(site, FakeSource("edge-1", "edge-2"))
    store, hub = edge(site)
    second_store, second = edge(site, "edge-2", "second.db")
    async with running(cloud.hub, store, hub):
        await until(lambda: hub.connected)
        # Half of a renewal: the new key is there, its certificate is not yet. Who comes now comes again.
        new_key = site._issue("other", "other").key_file.read_bytes()
        old_key = (site.folder / "cloudcore.key").read_bytes()
        (site.folder / "cloudcore.key").write_bytes(new_key)
        async with running(second_store, second):
            await until(lambda: "no link to cloudcore" in caplog.text or second.connected)
            (site.folder / "cloudcore.key").write_bytes(old_key)
            sign_again(site, "cloudcore", -DAY, 30 * DAY)
            await until(lambda: second.connected)
            assert "certificates were renewed" in caplog.text
        assert hub.connected
        assert cloud.counters.joins.count(True) == 2
