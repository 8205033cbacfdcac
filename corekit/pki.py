"""Certificates: a local authority, server, client and node certificates; files are written once, mode 0600.

The agent on a gateway never imports this module; it is for the command line and for cloudcore's signer.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from corekit.errors import ConfigError

CA_DAYS = 3650
LEAF_DAYS = 365
# A gateway without a battery-backed clock may be minutes behind when it first connects.
CLOCK_SKEW = dt.timedelta(hours=1)


@dataclass(frozen=True)
class KeyPair:
    """Paths of a PEM certificate and its PEM private key."""

    cert_file: Path
    key_file: Path


class Authority:
    """A certificate authority kept in two PEM files; made at first use."""

    def __init__(self, folder: Path, name: str) -> None:
        self.pair = KeyPair(folder / "ca.crt", folder / "ca.key")
        if self.pair.cert_file.exists() != self.pair.key_file.exists():
            # Making a new authority here would orphan every certificate already handed out.
            raise ConfigError(str(folder), "ca", "has only one of ca.crt and ca.key")
        if not self.pair.key_file.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make_authority(self.pair, name)
        self._cert = x509.load_pem_x509_certificate(self.pair.cert_file.read_bytes())
        key = serialization.load_pem_private_key(self.pair.key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(str(self.pair.key_file), "", "is not an elliptic-curve key")
        self._key = key

    def issue(
        self,
        pair: KeyPair,
        common_name: str,
        *,
        organizations: tuple[str, ...] = (),
        hosts: tuple[str, ...] = (),
    ) -> KeyPair:
        """Write a certificate and key to `pair` unless a usable one is there; return `pair`.

        Shapes:  hosts: IP addresses and DNS names a server answers to; empty makes a client certificate.
        """
        if pair.cert_file.exists() and pair.key_file.exists() and self._still_good(pair, hosts):
            return pair
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        names += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if hosts:
            usages.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (
            _builder(x509.Name(names), self._cert.subject, key.public_key(), LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if hosts:
            alternatives = x509.SubjectAlternativeName([_general_name(h) for h in hosts])
            builder = builder.add_extension(alternatives, critical=False)
        _write_pair(pair, builder.sign(self._key, hashes.SHA256()), key)
        return pair

    def _still_good(self, pair: KeyPair, hosts: tuple[str, ...]) -> bool:
        """Tell whether the certificate in `pair` is ours, names all `hosts`, and lasts a month more."""
        cert = x509.load_pem_x509_certificate(pair.cert_file.read_bytes())
        try:
            cert.verify_directly_issued_by(self._cert)
        except (ValueError, TypeError, InvalidSignature):  # another authority's: issue it again
            return False
        month = dt.timedelta(days=30)
        if cert.not_valid_after_utc - month < dt.datetime.now(dt.UTC):
            return False
        if not hosts:
            return True
        extension = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return {_general_name(h) for h in hosts} <= set(extension.value)


def _make_authority(pair: KeyPair, name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    cert = (
        _builder(subject, subject, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_pair(pair, cert, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_pair(pair: KeyPair, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    pair.cert_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    # The key first: a certificate without its key would be taken for a damaged folder.
    _write_atomically(pair.key_file, secret, 0o600)
    _write_atomically(pair.cert_file, cert.public_bytes(serialization.Encoding.PEM), 0o644)


def _write_atomically(path: Path, content: bytes, mode: int) -> None:
    part = path.with_name(path.name + ".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)
