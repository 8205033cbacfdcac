"""The value stream of cloudcore, read with the certificate that the user's kubeconfig has.

Where it is: `--server`, else $ARMADILLO_VALUES, else what the kubeconfig's cluster says in an extension of ours.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from armadillo.kubectl import Json, Kubectl
from corekit.errors import EdgeError

# In `clusters[].cluster.extensions`, which kubectl keeps and does not read.
EXTENSION = "armadillo.edge/values"
VARIABLE = "ARMADILLO_VALUES"
# A listing does not wait long for what it can do without.
SEEN_TIMEOUT_S = 2.0


class ValueStreamError(EdgeError):
    """The stream cannot be reached or refuses; `refused`: it does not let this user see the device."""

    def __init__(self, problem: str, *, refused: bool = False) -> None:
        self.refused = refused
        super().__init__(problem)


class Access(NamedTuple):
    """Where the stream is and as whom to read it; the last three are PEM."""

    server: str
    ca: bytes
    cert: bytes
    key: bytes


class Reading(NamedTuple):
    """One value; `missed` before it were left out."""

    device: str
    property: str
    time_ms: int
    value: object
    missed: int = 0


class Message(NamedTuple):
    """One message of a node; `missed` before it were left out."""

    node: str
    topic: str
    time_ms: int
    payload: bytes
    missed: int = 0


def find_access(calls: Kubectl, server: str) -> Access | None:
    """Return how to reach the stream; None if nothing says where it is.

    Raises:  ValueStreamError: the kubeconfig's user has no client certificate. KubectlError.
    """
    config = calls.json("config", "view", "--raw", "--minify", "--flatten")
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    where = server or os.environ.get(VARIABLE, "") or _extended(cluster)
    if not where:
        return None
    cert = user.get("client-certificate-data")
    if not cert:
        raise ValueStreamError(
            "the kubeconfig's user has no client certificate, which the stream needs"
        )
    ca = cluster.get("certificate-authority-data", "")
    return Access(where, *map(base64.b64decode, (ca, cert, user["client-key-data"])))


def watch(access: Access, devices: list[str]) -> Iterator[Reading]:
    """Yield every value of devices ("namespace/name") from now on. Raises: ValueStreamError."""
    from synccore.pb import values_pb2

    request = values_pb2.WatchRequest(devices=devices)
    yield from _read(access, lambda stub: stub.Watch(request))


def history(access: Access, device: str, prop: str, since_ms: int) -> Iterator[Reading]:
    """Yield the values that are kept of a property, oldest first. Raises: ValueStreamError."""
    from synccore.pb import values_pb2

    request = values_pb2.HistoryRequest(device=device, property=prop, since_ms=since_ms)
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


def _read(access: Access, call: Any) -> Iterator[Reading]:
    with _stub(access) as stub:
        for batch in call(stub):
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

    credentials = grpc.ssl_channel_credentials(access.ca or None, access.key, access.cert)
    with grpc.secure_channel(access.server, credentials) as channel:
        try:
            yield values_pb2_grpc.ValuesStub(channel)  # type: ignore[no-untyped-call]
        except grpc.RpcError as exc:
            denied = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
            refused = exc.code() in denied
            problem = f"values at {access.server}: {exc.details()}"
            raise ValueStreamError(problem, refused=refused) from exc


def _extended(cluster: Json) -> str:
    for extension in cluster.get("extensions") or []:
        if extension.get("name") == EXTENSION:
            return str((extension.get("extension") or {}).get("server", ""))
    return ""


def extension(server: str) -> list[Json]:
    """Return what a kubeconfig's cluster says of the stream."""
    return [{"name": EXTENSION, "extension": {"server": server}}]


def read_ca(path: str) -> bytes:
    """Return a PEM file. Raises: ValueStreamError."""
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise ValueStreamError(f"--ca-file {path}: {exc.strerror}") from exc
