"""What of a flood can be said in one message: many twin/update of one device become the newest of each property."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from edgecore.eventbus.inbox import Inbound
from edgecore.eventbus.topics import Asked, parse

# What changes a twin: such a message stays between the updates before it and those after.
_ORDERED = (Asked.TWIN_UPDATE, Asked.CLOUD_UPDATED)
_decoder = msgspec.json.Decoder(dict[str, Any])


def coalesce(messages: Sequence[Inbound]) -> list[Inbound]:
    """Return `messages` of one device with its twin updates merged, newest wins, at the place of the last one.

    What is no twin update that can be read, or deletes something, stays as it is, and so does its place among the
    updates. The merged message acknowledges all that it stands for.
    """
    kept: list[Inbound] = []
    updates: list[tuple[Inbound, dict[str, Any]]] = []
    for message in messages:
        body = _update_of(message)
        if body is not None:
            updates.append((message, body))
            continue
        request = parse(message.topic)
        if request is not None and request.asked in _ORDERED:
            kept += _merged(updates)
            updates = []
        kept.append(message)
    return kept + _merged(updates)


def _merged(updates: Sequence[tuple[Inbound, dict[str, Any]]]) -> list[Inbound]:
    """Return one message for all these, or none for none."""
    if not updates:
        return []
    merged: dict[str, Any] = {}
    for _, body in updates:
        for name, twin in body["twin"].items():
            merged[name] = {**merged.get(name, {}), **twin}
    newest, last = updates[-1]
    payload = msgspec.json.encode({**last, "twin": merged})
    older = (message for message, _ in updates[:-1])
    return [newest._replace(payload=payload, stands_for=(*newest.stands_for, *older))]


def _update_of(message: Inbound) -> dict[str, Any] | None:
    request = parse(message.topic)
    if request is None or request.asked is not Asked.TWIN_UPDATE:
        return None
    try:
        body = _decoder.decode(message.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    twin = body.get("twin")
    if not isinstance(twin, dict) or not all(isinstance(t, dict) for t in twin.values()):
        return None
    return body
