"""Links in an HTML page that lead to the root of its server, turned to where the page is proxied; pure.

One pass over the bytes, never back: the page is an application's, and may be made to be slow to read.
Source:  Kubernetes' apimachinery proxy transport (which attributes are links).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

_LINKS: dict[bytes, tuple[bytes, ...]] = {
    b"a": (b"href",),
    b"area": (b"href",),
    b"audio": (b"src",),
    b"base": (b"href",),
    b"blockquote": (b"cite",),
    b"body": (b"background",),
    b"button": (b"formaction",),
    b"del": (b"cite",),
    b"embed": (b"src",),
    b"form": (b"action",),
    b"frame": (b"longdesc", b"src"),
    b"html": (b"manifest",),
    b"iframe": (b"longdesc", b"src"),
    b"img": (b"longdesc", b"src", b"usemap"),
    b"input": (b"formaction", b"src", b"usemap"),
    b"ins": (b"cite",),
    b"link": (b"href",),
    b"object": (b"classid", b"codebase", b"data", b"usemap"),
    b"q": (b"cite",),
    b"script": (b"src",),
    b"source": (b"src",),
    b"video": (b"poster", b"src"),
}
# What stands between these and their end is no markup.
_RAW = {
    name: re.compile(b"</" + name, re.IGNORECASE)
    for name in (b"script", b"style", b"textarea", b"title")
}
# A longer tag is passed on as it is; none that people write is.
MAX_TAG_BYTES = 8 << 10
_NAME = re.compile(rb"<([a-zA-Z][a-zA-Z0-9]*)")
_VALUE = re.compile(rb"""(?<=[\s"'])([a-zA-Z]+)=(?:"([^"]*)"|'([^']*)'|([^\s"'<>=`]+))""", re.ASCII)


def rewrite_links(page: bytes, turn: Callable[[str], str]) -> bytes:
    """Return `page` with every link put through `turn`; what is no link stays byte for byte."""
    out: list[bytes] = []
    done = at = 0
    while (start := page.find(b"<", at)) >= 0:
        if page.startswith(b"<!--", start):
            at = _after(page, b"-->", start)
            continue
        end = _after(page, b">", start)
        at, tag = end, page[start:end]
        found = _NAME.match(tag)
        if found is None or len(tag) > MAX_TAG_BYTES:
            continue
        name = found[1].lower()
        if name in _LINKS:
            changed = _rewrite_tag(tag, _LINKS[name], turn)
            if changed != tag:
                out += [page[done:start], changed]
                done = end
        if name in _RAW:
            at = _end_of_raw(page, name, end)
    out.append(page[done:])
    return b"".join(out)


def unzipped(raw: bytes, most: int) -> bytes | None:
    """Return what the gzip `raw` holds; None if it is none, or more than `most` bytes."""
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        page = reader.decompress(raw, most)
    except zlib.error:
        return None
    return page if reader.eof else None


def _rewrite_tag(tag: bytes, links: tuple[bytes, ...], turn: Callable[[str], str]) -> bytes:
    def changed(found: re.Match[bytes]) -> bytes:
        which = next(index for index in (2, 3, 4) if found[index] is not None)
        if found[1].lower() not in links:
            return found[0]
        # Bytes of any encoding that holds ASCII come back as they were.
        value = turn(found[which].decode("latin-1")).encode("latin-1", "replace")
        start, end = found.span(which)
        offset = found.start()
        return found[0][: start - offset] + value + found[0][end - offset :]

    return _VALUE.sub(changed, tag)


def _after(page: bytes, mark: bytes, start: int) -> int:
    found = page.find(mark, start)
    return found + len(mark) if found >= 0 else len(page)


def _end_of_raw(page: bytes, name: bytes, start: int) -> int:
    """Return where the element's end tag begins."""
    found = _RAW[name].search(page, start)
    return found.start() if found else len(page)
