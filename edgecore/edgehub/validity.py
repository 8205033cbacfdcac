"""Since when and until when a certificate is valid, read from its bytes: the agent carries no library for it.

TLS tells a client only that the other side hung up. Most often it is this: a certificate that ended, or a clock that is
years behind, on a machine without a battery. Both can be seen here.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import NamedTuple

from corekit.timestamps import rfc3339

_END = "-----END CERTIFICATE-----"
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
# Two digits of a year mean 1950 to 2049 (RFC 5280, 4.1.2.5.1).
_PIVOT = 50


class Validity(NamedTuple):
    """Units: Unix seconds."""

    since_s: float
    until_s: float


def validity_of(pem: bytes) -> Validity | None:
    """Return the validity of the first certificate in `pem`, or None if it cannot be told."""
    try:
        text = pem.decode("ascii")
        der = ssl.PEM_cert_to_DER_cert(
            text[text.index("-----BEGIN") : text.index(_END) + len(_END)]
        )
        certificate, _ = _content(der, 0, _SEQUENCE)
        signed, _ = _content(certificate, 0, _SEQUENCE)
        pos = _after(signed, 0) if signed[0] == _VERSION else 0
        for _ in range(3):  # serial number, algorithm, issuer
            pos = _after(signed, pos)
        times, _ = _content(signed, pos, _SEQUENCE)
        since_s, pos = _time_s(times, 0)
        return Validity(since_s, _time_s(times, pos)[0])
    except (ValueError, IndexError):
        return None


def hint(validity: Validity | None, now_s: float) -> str:
    """Return what a failed handshake may be about, or nothing."""
    if validity is None:
        return ""
    if now_s > validity.until_s:
        return f"this node's certificate ended at {rfc3339(validity.until_s)}"
    if now_s < validity.since_s:
        begin = rfc3339(validity.since_s)
        return (
            f"the clock here says {rfc3339(now_s)}, and this node's certificate begins at {begin}"
        )
    return ""


def _content(der: bytes, pos: int, tag: int) -> tuple[bytes, int]:
    """Return the content of the element at `pos`, and where the next one begins."""
    found, length, start = der[pos], der[pos + 1], pos + 2
    if tag and found != tag:
        raise ValueError(f"element {found:#x} at {pos}, not {tag:#x}")
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or count > len(der) - start:
            raise ValueError(f"length of {count} bytes at {pos}")
        length, start = int.from_bytes(der[start : start + count], "big"), start + count
    if length > len(der) - start:
        raise ValueError(f"element of {length} bytes at {pos}")
    return der[start : start + length], start + length


def _after(der: bytes, pos: int) -> int:
    return _content(der, pos, 0)[1]


def _time_s(der: bytes, pos: int) -> tuple[float, int]:
    tag = der[pos]
    content, after = _content(der, pos, 0)
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("20" if int(text[:2]) < _PIVOT else "19") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"element {tag:#x} at {pos} is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp(), after
