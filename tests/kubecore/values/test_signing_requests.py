"""Certificate requests as hostile bytes, and what is signed of sound ones."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from corekit.pki import Authority
from kubecore.values.signing_requests import CertificateRequest, RequestError, Signer, ends_at_s

NOW_S = 1_900_000_000.0
KEY = ec.generate_private_key(ec.SECP256R1())
SAN = x509.SubjectAlternativeName([x509.DNSName("n"), x509.RFC822Name("a@b.c")])


def der_of(key=KEY, algorithm=hashes.SHA256(), names=SAN):  # noqa: B008 - one value for all
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jo")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


def pem(der, kind=b"CERTIFICATE REQUEST"):
    import base64

    lines = base64.encodebytes(der)
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (kind, lines, kind)


DER = der_of()


@pytest.fixture(scope="module")
def signer(tmp_path_factory):
    pair = Authority(tmp_path_factory.mktemp("ca"), "test").pair
    return Signer(pair.cert_file, pair.key_file)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(DER) - 1), st.integers(0, 255)), min_size=1, max_size=4)
)
@pytest.mark.timeout(30)
def test_a_request_that_was_changed_is_refused(changes):
    damaged = bytearray(DER)
    for place, byte in changes:
        damaged[place] = byte
    if bytes(damaged) != DER:
        with pytest.raises(RequestError):
            CertificateRequest(pem(bytes(damaged)))


@given(st.binary(max_size=300))
def test_bytes_that_are_no_request_are_refused(junk):
    for raw in (junk, pem(junk), pem(junk, b"CERTIFICATE")):
        with pytest.raises(RequestError):
            CertificateRequest(raw)


def test_keys_of_every_usual_kind_are_taken():
    for key, algorithm in (
        (ed25519.Ed25519PrivateKey.generate(), None),
        (rsa.generate_private_key(65537, 2048), hashes.SHA256()),
    ):
        assert CertificateRequest(pem(der_of(key, algorithm))).common_name == "jo"


@pytest.mark.parametrize(
    ("seconds", "lasting_s"), [(5, 600), (3600, 3600), (86_400, 86_100), (1 << 40, None)]
)
def test_a_certificate_lasts_as_long_as_was_asked_for(signer, seconds, lasting_s):
    wanted = CertificateRequest(pem(DER))
    seconds = min(seconds, 20 * 365 * 86_400)
    made = signer.sign(wanted, ["client auth", "signing"], seconds, NOW_S)
    certificate = x509.load_pem_x509_certificate(made)
    start_s = certificate.not_valid_before_utc.timestamp()
    assert start_s == NOW_S - 300
    end_s = ends_at_s(made)
    if lasting_s is None:  # no longer than its authority
        assert end_s < NOW_S + seconds
        assert end_s - dt.datetime.now(dt.UTC).timestamp() < 3651 * 86_400
    else:
        assert end_s == NOW_S + lasting_s


def test_a_certificate_is_for_what_was_asked_and_is_no_authority(signer):
    wanted = CertificateRequest(pem(DER))
    usages = ["digital signature", "key encipherment", "server auth", "any", "netscape sgc"]
    made = x509.load_pem_x509_certificate(signer.sign(wanted, usages, 3600, NOW_S))
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    plain = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (plain.digital_signature, plain.key_encipherment, plain.key_cert_sign) == (
        True,
        True,
        False,
    )
    extended = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(extended) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    }
    assert made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == SAN


def test_a_key_of_another_authority_is_refused(tmp_path):
    one, other = (Authority(tmp_path / name, name).pair for name in ("one", "other"))
    with pytest.raises(ValueError, match="is not the key of"):
        Signer(one.cert_file, other.key_file)


def test_what_is_no_certificate_never_ends():
    assert ends_at_s(b"x") is None
