"""JSON decoding that no stored object can break: nesting costs C stack, and msgspec stops at Python's limit."""

from __future__ import annotations

import sys
from typing import TypeVar

import msgspec

T = TypeVar("T")

# API servers take JSON nested 10,000 deep (Go's limit). At some 200 bytes a level that is 2 of the main
# thread's 8 MiB of stack.
DEEPEST = 11_000


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw) -> T:
    """Return `body` decoded, even if it is nested as deeply as an API server stores it.

    One custom resource of a thousand brackets would otherwise keep the list it is in from being read.
    Raises:  msgspec.DecodeError: it does not decode, or is nested deeper still.
    """
    try:
        return decoder.decode(body)
    except RecursionError:
        return _decode_deeply(decoder, body)
    except UnicodeDecodeError as exc:  # a ValueError, which callers do not expect of a decoder
        raise msgspec.DecodeError(str(exc)) from exc


def _decode_deeply(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw) -> T:
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(max(usual, DEEPEST))
    try:
        return decoder.decode(body)
    except RecursionError as exc:
        raise msgspec.DecodeError(f"nested deeper than {DEEPEST} levels") from exc
    finally:
        sys.setrecursionlimit(usual)
