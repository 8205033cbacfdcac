"""Paged lists: one frozen list per first page, handed out piece by piece until it is read or too old."""

from __future__ import annotations

import base64
import binascii
import itertools
import time
from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from kubecore.errors import bad_request, gone
from kubecore.storage.store import StoredObject

# As Kubernetes: etcd compacts after five minutes.
MAX_AGE_S = 300.0
# A frozen list holds references to old states; this bounds how many lists can hold them.
MAX_FROZEN = 64

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
    "the results. Continuing with the provided token results in an inconsistent list - objects that were "
    "created, modified, or deleted between the time the first chunk was returned and now may show up in the "
    "list."
)


@dataclass(frozen=True)
class Page:
    """A piece of a list. `remaining` is None where the server does not say."""

    entries: list[StoredObject]
    revision: int
    continue_token: str = ""
    remaining: int | None = None


class Token(msgspec.Struct, frozen=True, array_like=True):
    """What a continue token holds: where to go on, and in which frozen list."""

    frozen: int  # 0: no frozen list, go on in the current state
    offset: int
    after: tuple[str, str]
    scope: str


@dataclass
class _Frozen:
    entries: list[StoredObject]
    revision: int
    made_s: float


class Pages:
    """The frozen lists of one server."""

    def __init__(self) -> None:
        self._frozen: OrderedDict[int, _Frozen] = OrderedDict()
        # From the clock, so that a token of an earlier run never meets another list of this one.
        self._ids = itertools.count(time.time_ns())

    def first(self, entries: list[StoredObject], revision: int, limit: int, scope: str) -> Page:
        """Return the first page of `entries`; `scope` says what was listed."""
        if not limit or len(entries) <= limit:
            return Page(entries, revision)
        key = next(self._ids)
        self._frozen[key] = _Frozen(entries, revision, time.monotonic())
        while len(self._frozen) > MAX_FROZEN:
            self._frozen.popitem(last=False)
        return self._cut(key, 0, limit, scope)

    def open(self, text: str, scope: str) -> Token:
        """Return the token in `text`.

        Raises:  ApiStatusError 400: it is not one of ours, or for another list.
        """
        try:
            token = msgspec.json.decode(base64.urlsafe_b64decode(text), type=Token)
        except (binascii.Error, msgspec.MsgspecError, ValueError) as exc:
            raise bad_request("continue key is not valid: not a token of this server") from exc
        if token.scope != scope or token.offset < 0:
            raise bad_request("continue key is not valid: it was made for another list")
        return token

    def next(self, token: Token, limit: int) -> Page:
        """Return the page that `token` (one with a frozen list) asks for.

        Raises:  ApiStatusError 410: the list is gone; the Status carries a token to go on inconsistently.
        """
        oldest_s = time.monotonic() - MAX_AGE_S
        for key in [k for k, frozen in self._frozen.items() if frozen.made_s < oldest_s]:
            del self._frozen[key]
        if token.frozen not in self._frozen:
            raise gone(_TOO_OLD, _text(Token(0, 0, token.after, token.scope)))
        return self._cut(token.frozen, token.offset, limit, token.scope)

    def _cut(self, key: int, offset: int, limit: int, scope: str) -> Page:
        frozen = self._frozen[key]
        end = offset + limit if limit else len(frozen.entries)
        piece = frozen.entries[offset:end]
        remaining = len(frozen.entries) - end
        if remaining <= 0 or not piece:
            return Page(piece, frozen.revision)
        token = Token(key, end, (piece[-1].namespace, piece[-1].name), scope)
        return Page(piece, frozen.revision, _text(token), remaining)


def _text(token: Token) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode()
