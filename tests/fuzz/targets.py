"""Every decoder of what a peer or a user sends, as one function from bytes: only our own errors may come out of it.

A target returns if the input was taken or refused in the way its callers expect, and raises anything else.
Used by `python -m tests.fuzz` under atheris, and by test_targets.py with the kept corpus and with Hypothesis.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf.message import DecodeError as ProtobufError

from armadillo.up.kubeconfig import check_kubeconfig
from cloudcore.devicecontroller.reports import RefusedReportError, status_patch
from cloudcore.kube.kubeconfig import load_endpoint
from cloudcore.kube.projection import project_body
from cloudcore.kube.resources import DEVICES
from cloudcore.settings import CloudSettings
from corekit.errors import ConfigError, ProtocolError
from corekit.settings import load_settings
from devicemodels.objects import (
    Device,
    DeviceModel,
    ModelProperty,
    ModelSpec,
    ObjectDecodeError,
    decode_device,
    decode_model,
)
from devicemodels.rules import check_device, check_model
from devicemodels.twin import Reading, Twin, merge_readings, merge_state, take_desired
from devicemodels.values import DeviceModelError
from edgecore.edged.spec.fields import unknown_fields
from edgecore.edged.spec.podspec import PodSpecError, decode_identity, decode_pod
from edgecore.edged.volumes.claims import VOLUME, Held, resolve, volume_key
from edgecore.edged.volumes.errors import VolumeError
from edgecore.eventbus import payloads, topics
from edgecore.eventbus.packet_rules import PacketError
from edgecore.settings import EdgeSettings
from kubecore.errors import ApiStatusError
from kubecore.kinds.registry import Registry
from kubecore.patching.patches import PATCH_TYPES, PatchError, apply_patch
from kubecore.printing.tables import table
from kubecore.schema.checking import InvalidObjectError, StrictDecodingError, check
from kubecore.schema.protobuf import MAGIC, decode_protobuf
from kubecore.schema.protobuf import ProtobufError as KubeProtobufError
from kubecore.serving.requests import decode_body
from kubecore.settings import KubecoreSettings
from kubecore.streams.channels import ChannelTranslator, SpdyError, Wanted
from kubecore.streams.resource_metrics import parse_page
from kubecore.streams.spdy import SpdyConnection
from kubecore.values.jsonpath import compile_path
from kubecore.values.selectors import SelectorError, parse_field_selector, parse_label_selector
from synccore.asking import Asked
from synccore.buckets import DIGEST_BYTES, check_selected, differing, select
from synccore.cloud_session import CloudSession, Joining
from synccore.edge_session import EdgeSession, Joined
from synccore.errors import FrameError, LimitError, SessionClosedError
from synccore.index import RecordIndex
from synccore.messages import Close, Delta, Hello, Lane, ObjectKey, Op, State
from synccore.pb import sync_pb2 as pb
from synccore.session import Received
from synccore.tunnels import (
    MAX_STREAMS,
    WINDOW_BYTES,
    StreamAnswered,
    StreamCame,
    StreamRoom,
    StreamWanted,
    Tunnels,
)
from synccore.wire import cloud_to_wire, edge_to_wire, from_wire
from tests.fakes.pods import make_pod as make_edge_pod
from tests.fuzz.kubelet import (
    container_log,
    kubelet_request,
    kubelet_target,
    upgrade_answer,
)
from tests.kubecore.samples import device_crd, make_pod

Target = Callable[[bytes], None]
TWINS = ("synccore._codec", "synccore._codec_py")
PACKET_TWINS = ("edgecore.eventbus._packets", "edgecore.eventbus._packets_py")
KEY = ObjectKey("Pod", "default", "web")


class DisagreementError(AssertionError):
    """The decoder took the input and broke a promise about it."""


def demand(holds: object, what: str) -> None:
    """Raise unless `holds`; not `assert`, which a run may have switched off."""
    if not holds:
        raise DisagreementError(what)


def batch(raw: bytes) -> None:
    """A batch of deltas: both twins agree, and what decodes encodes to the same deltas."""
    outcomes = [_outcome(twin, "decode_batch", raw) for twin in twins()]
    demand(all(o == outcomes[0] for o in outcomes), "the twins disagree")
    if isinstance(outcomes[0], list):
        for twin in twins():
            again = twin.decode_batch(twin.encode_batch(outcomes[0]))
            demand(again == outcomes[0], "a decoded batch does not survive encoding")


def inventory(raw: bytes) -> None:
    """Two inventories: both twins agree on digest and difference."""
    middle = (len(raw) // 32) * 16
    local, remote = sorted_entries(raw[:middle]), raw[middle:]
    for call, arguments in (("digest_entries", (remote,)), ("diff_entries", (local, remote))):
        outcomes = [_outcome(twin, call, *arguments) for twin in twins()]
        demand(all(o == outcomes[0] for o in outcomes), f"the twins disagree on {call}")
    with suppress(LimitError):
        wanted = differing(local, remote)
        demand(len(wanted) * 8 * DIGEST_BYTES == len(remote), "a bit for each bucket")
        check_selected(select(local, wanted), wanted)


def sorted_entries(raw: bytes) -> bytes:
    """Return 16-byte entries sorted by key hash, as an inventory of our own always is."""
    entries = {raw[at : at + 8][::-1]: raw[at : at + 16] for at in range(0, len(raw) - 15, 16)}
    return b"".join(entry for _, entry in sorted(entries.items()))


def wire_to_cloud(raw: bytes) -> None:
    """Messages of an edge, each after a length of two bytes, into the cloud's end of a stream."""
    session = CloudSession(0.0, heartbeat_s=5, window_frames=4)
    index = RecordIndex()
    index.put(KEY, 7)

    def handle(event: object) -> None:
        if isinstance(event, Joining):
            session.accept(index, lambda key: Delta(Op.UPSERT, key, "u", 7, body=b"{}"), "s")
            session.tunnels.open("t")
            session.tunnels.open("t")
        elif isinstance(event, StreamAnswered | StreamCame | StreamRoom):
            _stream_on(session.tunnels, event.stream_id)
        elif isinstance(event, Received):
            session.committed(event.lane, event.number)
        elif isinstance(event, Asked):
            session.answer(event.id, 200, event.body)

    _feed(session, pb.EdgeMessage, raw, handle, cloud_to_wire)


def wire_to_edge(raw: bytes) -> None:
    """Messages of a cloud, each after a length of two bytes, into the edge's end of a stream."""
    hello = Hello("edge-1", b"d" * 16, b"g" * 16, 1, "1", "boot")
    session = EdgeSession(hello, lambda: b"\1" * 16, 0.0)

    def handle(event: object) -> None:
        if isinstance(event, Received):
            session.committed(event.lane, event.number)
        elif isinstance(event, StreamWanted):
            session.tunnels.answer(event.stream_id)
            _stream_on(session.tunnels, event.stream_id)
        elif isinstance(event, StreamCame | StreamRoom):
            _stream_on(session.tunnels, event.stream_id)
        elif isinstance(event, Joined):
            session.ask("Echo", b"")
        if session.state in (State.SYNCING, State.LIVE) and session.room(Lane.PODS) > 0:
            session.send(Lane.PODS, b"\1", ())

    _feed(session, pb.CloudMessage, raw, handle, edge_to_wire)


def _stream_on(tunnels: Tunnels, stream_id: int) -> None:
    """Do with a stream what its user would: take what came, fill what is free."""
    tunnels.consumed(stream_id, 1)
    room = tunnels.room(stream_id)
    demand(0 <= room <= WINDOW_BYTES, "more room than a window")
    demand(len(tunnels) <= MAX_STREAMS, "more streams than may be")
    if room:
        tunnels.send(stream_id, bytes(room))


def mqtt(raw: bytes) -> None:
    """An MQTT message: a topic up to the first newline, then its payload."""
    topic, _, payload = raw.partition(b"\n")
    request = topics.parse(topic.decode("utf-8", "replace"))
    if request is not None:
        demand(topics.result(request).endswith("/result"), "a request has no answer")
    for decode in (payloads.decode_update, payloads.decode_state, payloads.decode_get):
        try:
            decoded = decode(payload)
        except payloads.PayloadError as exc:
            json.loads(payloads.encode_error(exc, 1))
            continue
        if isinstance(decoded, payloads.Update):
            _merge(decoded.readings)
        elif isinstance(decoded, payloads.StateUpdate):
            merge_state(Twin("u"), decoded.state, 1)


def packets(raw: bytes) -> None:
    """What a broker sends, after a byte that chooses MQTT 5: both twins agree, and messages survive encoding."""
    modern, buf = raw[:1] == b"\x05", raw[1:]
    split = [_packets_of(twin, buf, modern=modern) for twin in twins(PACKET_TWINS)]
    demand(split[0] == split[-1], "the twins disagree")
    if isinstance(split[0][0], list):
        messages = [(topic, payload) for topic, payload, _ in split[0][0]]
        ids = [packet_id or 1 for _, _, packet_id in split[0][0]]
        for twin in twins(PACKET_TWINS):
            encoded = twin.encode_publishes(messages, ids, modern=modern)
            again = _packets_of(twin, encoded, modern=modern)[0]
            same = [(*m, i) for m, i in zip(messages, ids, strict=True)]
            demand(again == same, "a message does not survive encoding")


def pod(raw: bytes) -> None:
    """A Pod's body, as edged reads it."""
    decode_identity(raw)
    with suppress(PodSpecError):
        decoded, tree = decode_pod(raw)
        unknown_fields(tree["spec"])
        msgspec.json.encode(decoded)


def claim(raw: bytes) -> None:
    """A claim's body up to the first newline, then its volume's, as edged resolves them."""
    bodies = raw.partition(b"\n")
    volume_key(bodies[0])
    held = [Held("c", bodies[0]), Held("v", bodies[2])]
    user = make_edge_pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])
    with suppress(VolumeError):
        found = resolve(user, user.spec.volumes[0], lambda key: held[key.kind == VOLUME], {})
        demand(found is not None and found.host_path.path is not None, "a claim is no place")


def device(raw: bytes) -> None:
    """A Device's body, judged by a model and merged into a twin; and a node's report of one."""
    with suppress(RefusedReportError):
        status_patch("u", raw)
    with suppress(msgspec.DecodeError):
        project_body(DEVICES, raw)
    with suppress(ObjectDecodeError):
        decoded = decode_device(raw)
        check_device(decoded, MODEL)
        take_desired(Twin("u"), decoded, MODEL, 1)
        msgspec.json.encode(decoded)


def model(raw: bytes) -> None:
    """A DeviceModel's body, checked, and readings merged under it."""
    with suppress(ObjectDecodeError):
        decoded = decode_model(raw)
        check_model(decoded)
        take_desired(Twin("u"), Device(), decoded, 1)
        for prop in decoded.spec.properties[:4]:
            with suppress(DeviceModelError):
                reading = {prop.name: Reading(prop.minimum, prop.maximum)}
                merge_readings(Twin("u"), "n/d", decoded, reading, 1)


def settings(raw: bytes) -> None:
    """A settings file of each daemon."""
    for path in _file(raw):
        for shape in (EdgeSettings, CloudSettings, KubecoreSettings):
            try:
                load_settings(path, shape)
            except ConfigError as exc:
                demand("\n" not in str(exc), "an error of more than one line")


def kubeconfig(raw: bytes) -> None:
    """A kubeconfig, as cloudcore and as `armadillo up` read it."""
    for path in _file(raw):
        for read in (lambda p: load_endpoint(str(p)), check_kubeconfig):
            try:
                read(path)
            except ConfigError as exc:
                demand("\n" not in str(exc), "an error of more than one line")


def kube_body(raw: bytes) -> None:
    """A body of kubecore's API: the first byte chooses YAML by its highest bit, and the kind by the others."""
    decoded = _decoded(raw)
    if decoded is None:
        return
    resource = _resources()[(raw[0] & 0x7F) % len(_resources())]
    with suppress(InvalidObjectError, StrictDecodingError, RecursionError):
        checked = check(resource, decoded, field_validation="Ignore").obj
        msgspec.json.encode(checked)
        demand(check(resource, checked, old=checked).obj == checked, "checking twice differs")
        table(resource, [checked], list_meta={})


def kube_protobuf(raw: bytes) -> None:
    """A body of kubecore's API in protobuf: the first byte chooses the kind of what it holds."""
    for body in (raw, MAGIC + raw, enveloped(raw)):
        with suppress(KubeProtobufError):
            decoded = decode_protobuf(body)
            msgspec.json.encode(decoded)
            resource = _registry().kind(decoded["apiVersion"], decoded["kind"])
            if resource is not None:
                with suppress(InvalidObjectError, StrictDecodingError):
                    check(resource, decoded, field_validation="Ignore")


def enveloped(raw: bytes) -> bytes:
    """Return `raw`, less its first byte, as the object in an envelope that names a kind."""
    kind = PROTOBUF_KINDS[(raw[0] if raw else 0) % len(PROTOBUF_KINDS)]
    version, name = (part.encode() for part in kind)
    names = b"\n%c%b\x12%c%b" % (len(version), version, len(name), name)
    head = MAGIC + b"\n%c%b\x12" % (len(names), names)
    body, length = raw[1:], b""
    size = len(body)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return head + length + bytes([size]) + body


def kube_streams(raw: bytes) -> None:
    """What a kubelet and a client send on a command's connection, each half of the input; and a page of metrics."""
    middle = len(raw) // 2
    translator = ChannelTranslator(Wanted(stdin=True, stdout=True, stderr=True, tty=False))
    translator.opening()
    with suppress(SpdyError):
        translator.from_kubelet(raw[:middle])
    for frame in SpdyConnection().feed(translator.to_kubelet(raw[middle:])):
        demand(getattr(frame, "stream", 3) == 3, "a client wrote to a stream that is not its input")
    parse_page(raw.decode("utf-8", "replace"), 1.0)


def kube_patch(raw: bytes) -> None:
    """A patch of a pod or a device: the first byte chooses its type and what it patches."""
    decoded = _decoded(raw)
    if decoded is None:
        return
    before = make_pod()
    resource = _resources()[raw[0] % 2]
    media = PATCH_TYPES[raw[0] // 2 % len(PATCH_TYPES)]
    with suppress(PatchError, InvalidObjectError, StrictDecodingError, RecursionError):
        check(resource, apply_patch(resource, media, before, decoded), field_validation="Ignore")
    demand(before == make_pod(), "a patch changed what it was applied to")


def selector(raw: bytes) -> None:
    """Label and field selectors."""
    text = raw.decode("utf-8", "replace")
    with suppress(SelectorError):
        parse_label_selector(text)({"app": "web", "size": "5", "odd": "²"})
    with suppress(SelectorError):
        parse_field_selector(text)({"metadata": {"name": "x"}, "spec": {"unschedulable": True}})


def jsonpath(raw: bytes) -> None:
    """A path of a printer column. Source: kubecore/values/jsonpath.py, which promises ValueError."""
    with suppress(ValueError):
        compile_path(raw.decode("utf-8", "replace"))(make_pod())


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        batch,
        inventory,
        wire_to_cloud,
        wire_to_edge,
        mqtt,
        packets,
        pod,
        claim,
        device,
        model,
        settings,
        kubeconfig,
        kube_body,
        kube_protobuf,
        kube_streams,
        kube_patch,
        selector,
        jsonpath,
        kubelet_request,
        kubelet_target,
        upgrade_answer,
        container_log,
    )
}

PROTOBUF_KINDS = (
    ("v1", "Pod"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
    ("authentication.k8s.io/v1", "TokenRequest"),
    ("coordination.k8s.io/v1", "Lease"),
    ("apps/v1", "Deployment"),
    ("v1", "DeleteOptions"),
)
MODEL = DeviceModel(
    spec=ModelSpec(
        properties=tuple(
            ModelProperty(name=kind.lower(), type=kind, access_mode=mode, minimum="0", maximum="9")
            for kind, mode in (
                ("INT", "ReadWrite"),
                ("DOUBLE", "ReadWrite"),
                ("BOOLEAN", "ReadOnly"),
                ("STRING", "ReadWrite"),
                ("BYTES", "ReadWrite"),
            )
        )
    )
)


@cache
def twins(names: tuple[str, ...] = TWINS) -> list[Any]:
    """Return both twins of a codec; only the Python one where the other was not built."""
    found = []
    for name in names:
        with suppress(ModuleNotFoundError):
            found.append(import_module(name))
    return found


def _outcome(twin: Any, call: str, *arguments: object) -> object:
    try:
        return getattr(twin, call)(*arguments)
    except FrameError as exc:
        return exc.reason, exc.offset


def _packets_of(twin: Any, buf: bytes, *, modern: bool) -> Any:
    try:
        return twin.split_packets(buf, modern=modern)
    except PacketError as exc:
        return exc.reason, exc.offset


def _feed(
    session: Any, shape: Any, raw: bytes, handle: Callable[[object], None], to_wire: Any
) -> None:
    for chunk in _chunks(raw):
        try:
            message = from_wire(shape.FromString(chunk))
            for event in session.receive(message, 1.0):
                handle(event)
        except ProtobufError:
            return
        except SessionClosedError:
            demand(session.state is State.CLOSED, "a Close leaves the session open")
            return
        except ProtocolError as exc:
            session.close(exc.code, str(exc))
            last = session.outgoing()[-1]
            demand(isinstance(last, Close) and last.code == exc.code, "no Close says why")
            demand(session.state is State.CLOSED, "an error leaves the session open")
            to_wire(last)
            return
        if hasattr(session, "pump"):
            session.pump()
        for outgoing in session.outgoing():
            to_wire(outgoing).SerializeToString()


def _chunks(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at + 2 <= len(raw):
        length = int.from_bytes(raw[at : at + 2], "little")
        yield raw[at + 2 : at + 2 + length]
        at += 2 + length


def _merge(readings: dict[str, Reading]) -> None:
    with suppress(DeviceModelError):
        merge_readings(Twin("u"), "n/d", MODEL, readings, 1)


def _file(raw: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        path = Path(folder) / "file.yaml"
        path.write_bytes(raw)
        yield path


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _decoded(raw: bytes) -> Any:
    if len(raw) < 2:
        return None
    with suppress(ApiStatusError):
        return decode_body("application/yaml" if raw[0] & 0x80 else "application/json", raw[1:])
    return None


@cache
def _registry() -> Registry:
    registry = Registry()
    registry.install_crd(device_crd())
    return registry


@cache
def _resources() -> list[Any]:
    registry = _registry()
    # These first, so that the kept inputs mean the same when a kind is added.
    first = ["pods", "devices", "customresourcedefinitions", "events"]
    known = {resource.plural: resource for resource in registry.resources()}
    others = (resource for name, resource in sorted(known.items()) if name not in first)
    return [*(known[name] for name in first), *others]
