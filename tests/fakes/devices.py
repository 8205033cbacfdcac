"""The sample lamp as the store holds it."""

from __future__ import annotations

import copy
import json
from typing import Any

from devicemodels.manifests import sample_documents
from synccore.messages import Delta, ObjectKey, Op

MODEL, LAMP = sample_documents()
MODEL_KEY = ObjectKey("DeviceModel", "default", "lamp")
LAMP_KEY = ObjectKey("Device", "default", "lamp-01")


def lamp(*, uid: str = "u-1", model: str = "lamp", **desired: str) -> dict[str, Any]:
    """Return the lamp with these desired values and no others."""
    document = copy.deepcopy(LAMP)
    document["metadata"]["uid"] = uid
    document["spec"]["deviceModelRef"]["name"] = model
    document["spec"]["properties"] = [
        {"name": p["name"]}
        | ({"desired": {"value": desired[p["name"]]}} if p["name"] in desired else {})
        for p in document["spec"]["properties"]
    ]
    return document


def upsert(document: dict[str, Any], version: int = 1) -> Delta:
    """Return the delta that brings `document` to the node."""
    meta = document["metadata"]
    key = ObjectKey(document["kind"], meta["namespace"], meta["name"])
    body = json.dumps(document).encode()
    return Delta(Op.UPSERT, key, meta.get("uid", "u-m"), version, body=body)


def tombstone(key: ObjectKey) -> Delta:
    """Return the delta that takes an object from the node."""
    return Delta(Op.TOMBSTONE, key, "", 0)
