"""Whether a Device can be served, and the condition that says so. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from cloudcore.devicecontroller import conditions
from cloudcore.devicecontroller.conditions import Asked, Seen
from devicemodels.objects import (
    Condition,
    Device,
    DeviceModel,
    ObjectDecodeError,
    decode_device,
    decode_model,
)
from devicemodels.rules import Problem, check_device, check_model

ACCEPTED = "Accepted"
# A condition's message is read in `kubectl describe`; the rest shows once these are mended.
MAX_PROBLEMS = 5


class Judgement(NamedTuple):
    """What the condition says; `reason` is one of the words below, for programs."""

    accepted: bool
    reason: str  # Accepted | InvalidDevice | InvalidModel | ModelNotFound | NodeNotFound
    message: str


class Refs(NamedTuple):
    """What a Device depends on, for finding whom a new model or node concerns."""

    node: str
    model: str


class _Identity(msgspec.Struct, rename="camel"):
    generation: int = 0


class _Loose(msgspec.Struct):
    """A Device whose spec may be anything."""

    metadata: _Identity = msgspec.field(default_factory=_Identity)
    status: Seen = msgspec.field(default_factory=Seen)


class _Unconditioned(msgspec.Struct):
    """A Device whose status may be anything too."""

    metadata: _Identity = msgspec.field(default_factory=_Identity)


_loose = msgspec.json.Decoder(_Loose)
_unconditioned = msgspec.json.Decoder(_Unconditioned)


def judge(
    body: bytes, find_model: Callable[[str], bytes | None], has_node: Callable[[str], bool]
) -> Judgement:
    """Judge a Device by its JSON.

    Shapes:  find_model: name -> JSON of the DeviceModel in the device's namespace, or None.
    """
    try:
        device = decode_device(body)
    except ObjectDecodeError as exc:
        return Judgement(False, "InvalidDevice", f"{exc.field or 'document'}: {exc.problem}")
    name = device.model_name
    if not name:
        return Judgement(False, "ModelNotFound", "spec.deviceModelRef.name: is empty")
    found = find_model(name)
    if found is None:
        missing = f"spec.deviceModelRef.name: no DeviceModel {name!r} in namespace"
        return Judgement(False, "ModelNotFound", f"{missing} {device.metadata.namespace!r}")
    try:
        model = decode_model(found)
    except ObjectDecodeError as exc:
        return Judgement(False, "InvalidModel", f"DeviceModel {name}: {exc.field}: {exc.problem}")
    if problems := check_model(model):
        return Judgement(False, "InvalidModel", f"DeviceModel {name}: {_listed(problems)}")
    return _judge_parts(device, model, has_node)


def _judge_parts(device: Device, model: DeviceModel, has_node: Callable[[str], bool]) -> Judgement:
    if problems := check_device(device, model):
        return Judgement(False, "InvalidDevice", _listed(problems))
    node = device.spec.node_name
    if not node:
        return Judgement(False, "NodeNotFound", "spec.nodeName: is empty, so no node serves it")
    if not has_node(node):
        return Judgement(False, "NodeNotFound", f"spec.nodeName: no node {node!r}")
    return Judgement(True, ACCEPTED, f"served by node {node} as model {model.metadata.name}")


def refs_of(body: bytes) -> Refs:
    """Return what a Device depends on; nothing if it does not decode."""
    try:
        device = decode_device(body)
    except ObjectDecodeError:
        return Refs("", "")
    return Refs(device.spec.node_name, device.model_name)


def condition_patch(
    uid: str, body: bytes, judgement: Judgement, now: str, *, node_lost: bool = False
) -> bytes | None:
    """Return the merge patch for `devices/{name}/status` with all conditions, or None if it says them already.

    Units:   now: RFC 3339; becomes lastTransitionTime of a condition whose status flips.
    """
    loose = _read(body)
    generation, seen = loose.metadata.generation, loose.status
    accepted = Condition(
        ACCEPTED,
        "True" if judgement.accepted else "False",
        judgement.reason,
        judgement.message,
    )
    asked = _asked(body, generation)
    wanted = [
        accepted,
        conditions.online(seen, node=asked.node, node_lost=node_lost),
        conditions.synced(seen, asked, node_lost=node_lost),
    ]
    merged = conditions.merge(seen.conditions, wanted, generation, now)
    if merged == list(seen.conditions):
        return None
    changed = {"observedGeneration": generation, "conditions": merged}
    return msgspec.json.encode({"metadata": {"uid": uid}, "status": changed})


def _asked(body: bytes, generation: int) -> Asked:
    try:
        spec = decode_device(body).spec
    except ObjectDecodeError:
        return Asked(generation, "", {})
    desired = {p.name: p.desired.value for p in spec.properties if p.desired is not None}
    return Asked(generation, spec.node_name, desired)


def _read(body: bytes) -> _Loose:
    try:
        return _loose.decode(body)
    except msgspec.DecodeError:  # status is what others wrote; broken conditions are replaced
        pass
    try:
        return _Loose(_unconditioned.decode(body).metadata)
    except msgspec.DecodeError:
        return _Loose()


def _listed(problems: list[Problem]) -> str:
    shown = "; ".join(str(problem) for problem in problems[:MAX_PROBLEMS])
    hidden = len(problems) - MAX_PROBLEMS
    return f"{shown}; and {hidden} more" if hidden > 0 else shown
