"""Who may see which devices' values: a client certificate or a bearer token says who, the cluster's own RBAC whether."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from cloudcore.kube.reviews import AUTHENTICATED, Api, ReviewError, Reviews, User

# Less than for nodes: a stream is long, and is asked about again.
ALLOWED_TTL_S = 30.0


class Gate:
    """Asks the API server; no answer means no."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._reviews = Reviews(api, "values", clock, ALLOWED_TTL_S)

    async def caller(self, auth_context: Any, metadata: Iterable[tuple[str, str | bytes]]) -> User:
        """Return who a gRPC call comes from: whom its certificate names, else who holds its token.

        Raises:  UnauthenticatedError, ReviewError.
        """
        if (named := _named(auth_context)) is not None:
            return named
        shown = [value for name, value in metadata if name == "authorization"]
        # Of two tokens nobody knows which one is meant.
        header = shown[0] if len(shown) == 1 and isinstance(shown[0], str) else ""
        return await self._reviews.holder(header)

    async def allows(self, caller: User, verb: str, namespace: str, name: str) -> bool:
        """Tell whether `caller` may get or watch a Device; an empty name: all of the namespace; both: all."""
        named = {"namespace": namespace, "name": name}
        devices = {"group": "devices.kubeedge.io", "resource": "devices"}
        return await self._ask(caller, {**devices, "verb": verb, **named})

    async def allows_messages(self, caller: User, node: str) -> bool:
        """Tell whether `caller` may watch the messages of a node; an empty name: of all nodes."""
        messages = {"group": "", "resource": "nodes", "subresource": "messages"}
        return await self._ask(caller, {**messages, "verb": "watch", "name": node})

    async def _ask(self, caller: User, attributes: dict[str, str]) -> bool:
        try:
            return await self._reviews.allows(caller, attributes)
        except ReviewError:
            return False


def _named(auth_context: Any) -> User | None:
    """Return whom the client certificate names: CN and every O; None: nobody, or there is none."""
    found = auth_context.get("x509_pem_cert", [])
    if len(found) != 1:
        return None
    try:
        subject = x509.load_pem_x509_certificate(found[0]).subject
    except ValueError:
        return None
    names = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1 or not names[0]:
        return None
    groups = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return User(names[0], groups=(*groups, AUTHENTICATED))
