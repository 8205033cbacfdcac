"""What of a flood can be said in one message: many twin/update of one device become the newest of each property."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from edgecore.eventbus.inbox import Inbound
from edgecore.eventbus.topics import Asked, parse

_decoder = msgspec.json.Decoder(dict[str, Any])


def coalesce(messages: Sequence[Inbound]) -> list[Inbound]:
    """Return `messages` of one device with its twin updates merged, newest wins, at the place of the last one.

    What is no twin update that can be read stays as it is. The merged message acknowledges all that it stands for.
    """
    kept: list[Inbound] = []
    merged: dict[str, Any] = {}
    stands_for: list[Inbound] = []
    last: dict[str, Any] = {}
    for message in messages:
        body = _update_of(message)
        if body is None:
            kept.append(message)
            continue
        for name, twin in body["twin"].items():
            merged[name] = {**merged.get(name, {}), **twin}
        last = body
        stands_for.append(message)
    if not stands_for:
        return kept
    newest = stands_for.pop()
    payload = msgspec.json.encode({**last, "twin": merged})
    return [*kept, newest._replace(payload=payload, stands_for=(*newest.stands_for, *stands_for))]


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
