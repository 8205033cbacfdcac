"""The value stream of cloudcore, read with the certificate or token that the user's kubeconfig has.

Where it is: `--server`, else $ARMADILLO_VALUES, else what the kubeconfig's cluster says in an extension of ours.
"""

from __future__ import annotations

import contextlib
import os
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from armadillo.credentials import Credential, CredentialError, credential_of
from armadillo.kubectl import Json, Kubectl
from corekit.errors import EdgeError

# In `clusters[].cluster.extensions`, which kubectl keeps and does not read.
EXTENSION = "armadillo.edge/values"
VARIABLE = "ARMADILLO_VALUES"
# A listing does not wait long for what it can do without.
SEEN_TIMEOUT_S = 2.0


class ValueStreamError(EdgeError):
    """The stream cannot be reached or refuses; retryable if the same call may be answered later.

    Shapes:  unknown: it does not know the user: his token may have run out.
    """

    def __init__(self, problem: str, *, lost: bool = False, unknown: bool = False) -> None:
        self.retryable, self.unknown = lost, unknown
        super().__init__(problem)


class Access(NamedTuple):
    """Where the stream is and as whom to read it. Shapes: ca: PEM; empty: the system's authorities."""

    server: str
    ca: bytes
    credential: Credential


class Reading(NamedTuple):
    """One value; `missed` before it were left out; `kept`: it comes from history."""

    device: str
    property: str
    time_ms: int
    value: object
    missed: int = 0
    kept: bool = False


class Message(NamedTuple):
    """One message of a node; `missed` before it were left out."""

    node: str
    topic: str
    time_ms: int
    payload: bytes
    missed: int = 0


def find_access(calls: Kubectl, server: str) -> Access | None:
    """Return how to reach the stream; None if nothing says where it is.

    Raises:  ValueStreamError: the kubeconfig's user has nothing to show. KubectlError.
    """
    config = calls.json("config", "view", "--raw", "--minify", "--flatten")
    cluster = _first(config, "clusters", "cluster")
    named = server or os.environ.get(VARIABLE, "")
    extended = _extended(cluster)
    if not named and not extended:
        return None
    try:
        credential = credential_of(_first(config, "users", "user"), cluster)
        ca = b64decode(cluster.get("certificate-authority-data", ""))
    except (CredentialError, ValueError) as exc:
        raise ValueStreamError(str(exc)) from exc
    where = named or extended.get("tokenServer" if credential.token else "server")
    return Access(str(where), ca, credential) if where else None


Key = tuple[str, str]  # device, property


def watch(access: Access, devices: list[str], last: dict[Key, int]) -> Iterator[Reading]:
    """Yield every value of devices ("namespace/name") from now on, and first what is kept since the `last` one.

    Shapes:  last: time of the last value of each property, in Unix ms; kept up to date here.
    Raises:  ValueStreamError.
    """
    from synccore.pb import values_pb2

    request = values_pb2.WatchRequest(devices=devices)
    # What comes between the two calls comes twice.
    told: set[tuple[str, str, int]] = set()
    for reading in _read(access, lambda stub: stub.Watch(request), lambda: _since(access, last)):
        key = (reading.device, reading.property)
        if reading.kept:
            told.add((*key, reading.time_ms))
        elif (*key, reading.time_ms) in told:
            continue
        yield reading
        last[key] = reading.time_ms


def _since(access: Access, last: dict[Key, int]) -> Iterator[Reading]:
    for (device, prop), time_ms in list(last.items()):
        try:
            for reading in history(access, device, prop, since_ms=time_ms + 1, newest_count=0):
                yield reading._replace(kept=True)
        except ValueStreamError as exc:
            if exc.retryable:
                raise
            return  # this user may watch, and not look back


def history(
    access: Access, device: str, prop: str, *, since_ms: int, newest_count: int
) -> Iterator[Reading]:
    """Yield the values that are kept of a property, oldest first; of newest_count 0 all. Raises: ValueStreamError."""
    from synccore.pb import values_pb2

    request = values_pb2.HistoryRequest(
        device=device, property=prop, since_ms=since_ms, newest_count=newest_count
    )
    yield from _read(access, lambda stub: stub.History(request))


def seen(access: Access, devices: list[str]) -> dict[str, int]:
    """Return when devices were heard last, in Unix milliseconds. Raises: ValueStreamError."""
    from synccore.pb import values_pb2

    with _stub(access) as stub:
        reply = stub.Seen(values_pb2.SeenRequest(devices=devices), timeout=SEEN_TIMEOUT_S)
    return {sighting.device: sighting.time_ms for sighting in reply.sightings}


def messages(access: Access, nodes: list[str]) -> Iterator[Message]:
    """Yield messages that are uploaded at nodes, at all if none are named. Raises: ValueStreamError."""
    from synccore.pb import values_pb2

    with _stub(access) as stub:
        for batch in stub.Messages(values_pb2.MessagesRequest(nodes=nodes)):
            missed = batch.missed
            for m in batch.messages:
                yield Message(m.node, m.topic, m.time_ms, m.payload, missed)
                missed = 0


def _read(
    access: Access, call: Any, first: Callable[[], Iterable[Reading]] = tuple
) -> Iterator[Reading]:
    """Yield what a call gives; before that, once it is served, what `first` gives."""
    with _stub(access) as stub:
        batches = call(stub)
        batches.initial_metadata()  # waits for it; of a call that failed there is none
        yield from first()
        for batch in batches:
            missed = batch.missed
            for value in batch.values:
                kind = value.WhichOneof("value")
                yield Reading(
                    value.device, value.property, value.time_ms, getattr(value, kind), missed
                )
                missed = 0


@contextlib.contextmanager
def _stub(access: Access) -> Iterator[Any]:
    """Open a channel; what goes wrong on it is a ValueStreamError."""
    import grpc  # late: most commands need none

    from synccore.pb import values_pb2_grpc

    shown = access.credential
    credentials = grpc.ssl_channel_credentials(
        access.ca or None, shown.key or None, shown.cert or None
    )
    if shown.token:  # and never without TLS around it: gRPC refuses that
        credentials = grpc.composite_channel_credentials(
            credentials, grpc.access_token_call_credentials(shown.token)
        )
    with grpc.secure_channel(access.server, credentials) as channel:
        try:
            yield values_pb2_grpc.ValuesStub(channel)  # type: ignore[no-untyped-call]
        except grpc.RpcError as exc:
            problem = f"values at {access.server}: {exc.details()}"
            # A server that stops cancels its calls.
            lost = exc.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            unknown = exc.code() is grpc.StatusCode.UNAUTHENTICATED
            raise ValueStreamError(problem, lost=lost, unknown=unknown) from exc


def _first(config: Json, section: str, kind: str) -> Json:
    """Return the one cluster or user that `--minify` leaves; empty if the kubeconfig names none."""
    entries = config.get(section) or [{}]
    return entries[0].get(kind) or {}


def _extended(cluster: Json) -> Json:
    for entry in cluster.get("extensions") or []:
        if entry.get("name") == EXTENSION:
            return entry.get("extension") or {}
    return {}


def extension(server: str, token_server: str) -> list[Json]:
    """Return what a kubeconfig's cluster says of the stream: where to go with a certificate, and with a token."""
    return [{"name": EXTENSION, "extension": {"server": server, "tokenServer": token_server}}]


def read_ca(path: str) -> bytes:
    """Return a PEM file. Raises: ValueStreamError."""
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise ValueStreamError(f"--ca-file {path}: {exc.strerror}") from exc
