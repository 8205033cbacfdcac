"""The key that signs service account tokens, and JSON Web Tokens under it (ES256 only).

Imported at the first token: it brings `cryptography` with it, which is 8 MiB. A token of another algorithm is refused unread: which one is used is the server's choice, never the token's.
Source:  RFC 7515, RFC 7517, RFC 7518 section 3.4.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from corekit.errors import SETTINGS, ConfigError
from kubecore.access.errors import TokenError

ALGORITHM = "ES256"
_HALF_BYTES = 32
# A token of ours has about 1 KiB.
MAX_TOKEN_BYTES = 16 << 10
_HASH = ec.ECDSA(hashes.SHA256())


class SigningKey:
    """An elliptic-curve key in a PEM file of mode 0600; made at first use."""

    def __init__(self, path: Path) -> None:
        try:
            if not path.exists():
                _make_key(path)
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError) as exc:
            problem = f"{path} cannot be used: {exc}"
            raise ConfigError(SETTINGS, "accounts.key_file", problem) from exc
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ConfigError(SETTINGS, "accounts.key_file", f"{path} is not an EC key on P-256")
        self._key, self._public = key, key.public_key()
        numbers = self._public.public_numbers()
        self._x, self._y = (_text(n.to_bytes(_HALF_BYTES, "big")) for n in (numbers.x, numbers.y))
        der = self._public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.id = _text(hashlib.sha256(der).digest())

    def sign(self, claims: dict[str, Any]) -> str:
        """Return a token that says `claims`."""
        head = msgspec.json.encode({"alg": ALGORITHM, "kid": self.id})
        signed = f"{_text(head)}.{_text(msgspec.json.encode(claims))}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), _HASH))
        signature = r.to_bytes(_HALF_BYTES, "big") + s.to_bytes(_HALF_BYTES, "big")
        return f"{signed}.{_text(signature)}"

    def claims(self, token: str) -> dict[str, Any]:
        """Return what a token says, once its signature is proved; whether it still holds is for the caller.

        Raises:  TokenError.
        """
        if len(token) > MAX_TOKEN_BYTES or token.count(".") != 2:
            raise TokenError("it is no JSON Web Token")
        signed, _, signature = token.rpartition(".")
        head, body = (_object(part) for part in signed.split("."))
        if head.get("alg") != ALGORITHM or head.get("kid") != self.id:
            raise TokenError("it is signed by another key")
        raw = _bytes(signature)
        if len(raw) != 2 * _HALF_BYTES:
            raise TokenError("its signature has the wrong length")
        r, s = (int.from_bytes(half, "big") for half in (raw[:_HALF_BYTES], raw[_HALF_BYTES:]))
        try:
            self._public.verify(encode_dss_signature(r, s), signed.encode(), _HASH)
        except InvalidSignature as exc:
            raise TokenError("its signature is wrong") from exc
        return body

    def jwks(self) -> dict[str, Any]:
        """Return the JSON Web Key Set by which others check the tokens."""
        key = {"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": ALGORITHM}
        return {"keys": [{**key, "x": self._x, "y": self._y}]}


def _make_key(path: Path) -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)  # whole or not at all: half a key would end every token


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise TokenError("it is not base64") from exc


def _object(text: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(_bytes(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise TokenError("it is not JSON") from exc
    if not isinstance(value, dict):
        raise TokenError("it is no JSON object")
    return value
