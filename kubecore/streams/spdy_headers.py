"""Header blocks of SPDY/3.1: names and values, compressed with a dictionary that both ends know.

Source:  draft-mbelshe-httpbis-spdy-00, sections 2.6.10 and 2.6.10.1.
"""

from __future__ import annotations

import struct
import zlib

from kubecore.streams.errors import SpdyError

# A stream of kubelet's has four short headers.
MAX_HEADER_BYTES = 16 << 10
MAX_HEADERS = 64
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age "
    "allow authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
_LENGTH = struct.Struct(">I")
DICTIONARY = (
    b"".join(_LENGTH.pack(len(word)) + word.replace("_", " ").encode() for word in _WORDS.split())
    + _TAIL.encode()
)


class HeaderWriter:
    """Compresses the header blocks of one direction of a connection: each builds on those before it."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def block(self, headers: dict[str, str]) -> bytes:
        """Return the compressed block."""
        plain = _LENGTH.pack(len(headers))
        for name, value in headers.items():
            for text in (name.lower(), value):
                encoded = text.encode()
                plain += _LENGTH.pack(len(encoded)) + encoded
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


class HeaderReader:
    """Reads the header blocks of one direction of a connection, in order and none left out."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def headers(self, block: bytes) -> dict[str, str]:
        """Return the names, in lower case, and values. Raises:  SpdyError."""
        try:
            plain = self._inflate.decompress(block, MAX_HEADER_BYTES)
        except zlib.error as exc:
            raise SpdyError(f"a header block does not inflate: {exc}") from exc
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"a header block is larger than {MAX_HEADER_BYTES} bytes")
        texts = _Texts(plain)
        count = texts.number()
        if count > MAX_HEADERS:
            raise SpdyError(f"a header block has more than {MAX_HEADERS} headers")
        return {texts.text(): texts.text() for _ in range(count)}


class _Texts:
    def __init__(self, plain: bytes) -> None:
        self._plain, self._pos = plain, 0

    def number(self) -> int:
        value: int = _LENGTH.unpack(self._take(_LENGTH.size))[0]
        return value

    def text(self) -> str:
        return self._take(self.number()).decode("utf-8", "replace")

    def _take(self, length: int) -> bytes:
        if length > len(self._plain) - self._pos:
            raise SpdyError("a header block is truncated")
        self._pos += length
        return self._plain[self._pos - length : self._pos]
