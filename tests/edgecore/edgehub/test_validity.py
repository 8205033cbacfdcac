from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecore.edgehub.validity import Validity, hint, validity_of

DAY = dt.datetime.fromisoformat("2026-01-01")  # UTC, as the library takes it
KEYS = [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)]


def certificate(key, since, until, names=1):
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o" * 60)] * names)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(KEYS),
    st.datetimes(DAY.replace(year=1951), DAY.replace(year=2120)),
    st.timedeltas(dt.timedelta(days=1), dt.timedelta(days=80_000)),
    st.integers(0, 6),
)
def test_the_validity_is_the_one_that_was_signed(key, since, lasts, names):
    since, until = since.replace(microsecond=0), (since + lasts).replace(microsecond=0)
    pem = certificate(key, since, until, names)
    expected = Validity(*(t.replace(tzinfo=dt.UTC).timestamp() for t in (since, until)))
    assert validity_of(pem) == expected
    assert validity_of(b"a word\n" + pem + certificate(key, since, since)) == expected


PEM = certificate(KEYS[0], DAY, DAY.replace(year=2027))


@given(st.integers(0, len(PEM) - 1), st.binary(max_size=3))
def test_a_file_that_is_none_says_nothing_and_breaks_nothing(at, other):
    found = validity_of(PEM[:at] + other + PEM[at + len(other) :])
    assert found is None or isinstance(found, Validity)
    assert validity_of(PEM[:at]) is None or at > len(PEM) - 3


@pytest.mark.parametrize("pem", [b"", b"\xff", b"-----END CERTIFICATE----------BEGIN"])
def test_what_is_no_certificate_has_no_validity(pem):
    assert validity_of(pem) is None


def test_the_hint_names_what_is_wrong_and_when():
    validity = validity_of(PEM)
    assert (
        hint(validity, validity.since_s) == hint(validity, validity.until_s) == hint(None, 0) == ""
    )
    assert hint(validity, validity.until_s + 1) == (
        "this node's certificate ended at 2027-01-01T00:00:00Z"
    )
    assert hint(validity, 90.0) == (
        "the clock here says 1970-01-01T00:01:30Z, and this node's certificate begins at "
        "2026-01-01T00:00:00Z"
    )
