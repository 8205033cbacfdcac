"""PKCS#10 certificate requests and the certificates made of them.

Imported when the first request comes: it brings `cryptography` with it, which is 8 MiB.
Source:  Kubernetes' pkg/apis/certificates (helpers) and pkg/controller/certificates (signer, authority).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubecore.values import signers
from kubecore.values.signers import NODE_PREFIX, NODES_GROUP

# A request is a name and a key; the largest keys make 4 KiB.
MAX_REQUEST_BYTES = 64 << 10
# As upstream: clocks differ, and five minutes are about a hundredth of eight hours.
BACKDATE = dt.timedelta(minutes=5)
_SHORT = dt.timedelta(hours=8)
MIN_S = 600
_EXTENDED = {
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}
_PLAIN = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
}
_KEY_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
_CA_KEYS = (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey)

_UNREADABLE = (
    *(ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion),
    *(x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)


class RequestError(ValueError):
    """The request cannot be read, or its signature is wrong."""


class CertificateRequest:
    """One request, whose signature has been proved. Raises:  RequestError.

    Shapes:  common_name: "" if the subject has none. organizations: the groups that the subject would be in.
    """

    def __init__(self, pem: bytes) -> None:
        if len(pem) > MAX_REQUEST_BYTES:
            raise RequestError(f"larger than {MAX_REQUEST_BYTES} bytes")
        if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
            raise RequestError("PEM block type must be CERTIFICATE REQUEST")
        try:
            self.request = x509.load_pem_x509_csr(pem)
            signed = self.request.is_signature_valid
            self._names = _alternative_names(self.request)
            self.common_name = next(iter(self._of_subject(NameOID.COMMON_NAME)), "")
            self.organizations = self._of_subject(NameOID.ORGANIZATION_NAME)
        except _UNREADABLE as exc:
            raise RequestError(f"it cannot be read: {exc}") from exc
        if not signed:
            raise RequestError("its signature is wrong")

    def problem_for(self, signer: str, usages: Iterable[str]) -> str:
        """Return why one of Kubernetes' own signers does not sign this; "" if it does."""
        wanted = set(usages)
        match signer:
            case signers.CLIENT:
                return _client_problem(wanted)
            case signers.KUBELET_CLIENT:
                return (
                    self._node_problem()
                    or self._no_names()
                    or _usage_problem(wanted, "client auth")
                )
            case signers.KUBELET_SERVING:
                return (
                    self._node_problem()
                    or self._serving_names()
                    or _usage_problem(wanted, "server auth")
                )
        return f"{signer} is no signer of this cluster"

    def _node_problem(self) -> str:
        if self.organizations != [NODES_GROUP]:
            return f"subject organization is not {NODES_GROUP}"
        if not self.common_name.startswith(NODE_PREFIX):
            return f"subject common name does not begin with {NODE_PREFIX}"
        return ""

    def _no_names(self) -> str:
        for kind, word in ((x509.DNSName, "DNS"), (x509.IPAddress, "IP")):
            if self._has(kind):
                return f"{word} subjectAltNames are not allowed"
        return self._odd_names()

    def _serving_names(self) -> str:
        if not (self._has(x509.DNSName) or self._has(x509.IPAddress)):
            return "DNS or IP subjectAltName is required"
        return self._odd_names()

    def _odd_names(self) -> str:
        for kind, word in ((x509.RFC822Name, "Email"), (x509.UniformResourceIdentifier, "URI")):
            if self._has(kind):
                return f"{word} subjectAltNames are not allowed"
        return ""

    def _has(self, kind: type[x509.GeneralName]) -> bool:
        return any(isinstance(name, kind) for name in self._names)

    def _of_subject(self, oid: x509.ObjectIdentifier) -> list[str]:
        return [str(found.value) for found in self.request.subject.get_attributes_for_oid(oid)]

    @property
    def names(self) -> list[x509.GeneralName]:
        """The subject's alternative names."""
        return self._names


def _alternative_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(found.value)


def _client_problem(usages: set[str]) -> str:
    odd = sorted(usages - {"client auth", "digital signature", "key encipherment"})
    if odd:
        return f"invalid usage for client certificate: {odd[0]}"
    if "client auth" not in usages:
        return "missing required usage for client certificate: client auth"
    return ""


def _usage_problem(usages: set[str], needed: str) -> str:
    """A key that is no RSA key enciphers nothing, so that usage may be left out."""
    least = {"digital signature", needed}
    if usages in (least, least | {"key encipherment"}):
        return ""
    return f"usages did not match [{needed}, digital signature, key encipherment]"


class Signer:
    """The authority in two PEM files. Raises:  OSError, ValueError: they cannot be used."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._cert = x509.load_pem_x509_certificate(cert_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, _CA_KEYS):
            raise ValueError(f"{key_file} is no key that certificates are signed with")
        if key.public_key() != self._cert.public_key():
            raise ValueError(f"{key_file} is not the key of {cert_file}")
        self._key = key

    def sign(
        self, wanted: CertificateRequest, usages: Iterable[str], seconds: int, now_s: float
    ) -> bytes:
        """Return a certificate for `wanted` as PEM. Units:  seconds: from now; the authority's own end is the last."""
        now = dt.datetime.fromtimestamp(int(now_s), dt.UTC)
        lasting = dt.timedelta(seconds=max(seconds, MIN_S))
        start = now - BACKDATE
        # A short one lasts as long as was asked for; of a long one nobody misses five minutes.
        end = (now if lasting < _SHORT else start) + lasting
        asked = set(usages)
        builder = (
            x509.CertificateBuilder()
            .subject_name(wanted.request.subject)
            .issuer_name(self._cert.subject)
            .public_key(wanted.request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(min(end, self._cert.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        plain = {_PLAIN[usage] for usage in asked if usage in _PLAIN}
        if plain:
            flags = {name: name in plain for name in _KEY_USAGES}
            builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
        extended = [_EXTENDED[usage] for usage in sorted(asked) if usage in _EXTENDED]
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        if wanted.names:
            names = x509.SubjectAlternativeName(wanted.names)
            builder = builder.add_extension(names, critical=False)
        algorithm = None if isinstance(self._key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        made = builder.sign(self._key, algorithm)
        return made.public_bytes(serialization.Encoding.PEM)


def ends_at_s(pem: bytes) -> float | None:
    """Return when the first certificate in `pem` ends, in Unix seconds; None if there is none."""
    try:
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    except _UNREADABLE:
        return None
