"""Certificate signing requests: approves those of nodes that may, signs what is approved, and removes the old.

Source:  Kubernetes' pkg/controller/certificates (approver, signer, cleaner).
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from corekit.errors import SETTINGS, ConfigError
from corekit.timestamps import parse_rfc3339
from kubecore.controllers.mirror import Mirror, builtin
from kubecore.controllers.passes import pass_after_changes
from kubecore.errors import ApiStatusError
from kubecore.objects.client import Objects
from kubecore.settings import CertificateSettings
from kubecore.values.signers import KUBELET_CLIENT, OWN_SIGNERS

if TYPE_CHECKING:
    from kubecore.values.signing_requests import CertificateRequest, Signer

logger = logging.getLogger(__name__)

Object = dict[str, Any]
# Upstream's: what is decided or issued is kept for an hour, what waits for a day.
DONE_S, WAITING_S = 3600.0, 24 * 3600.0
SWEEP_S = 600.0
_APPROVERS = (
    ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
    ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
)


class MayAsk(Protocol):
    """Tells whether the user in a request's spec may create `certificatesigningrequests/SUBRESOURCE`."""

    def __call__(self, spec: Object, subresource: str, /) -> bool:
        """Return whether RBAC lets them."""


class CertificateRequests:
    """Component: one pass over all requests after each change, and every ten minutes for the old ones."""

    name = "certificates"

    def __init__(
        self,
        objects: Objects,
        settings: CertificateSettings,
        may_ask: MayAsk,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._objects, self._settings, self._may_ask = objects, settings, may_ask
        self._clock = clock
        self._signer: Signer | None = None
        self._wake = asyncio.Event()
        self._kind = builtin(objects, "certificates.k8s.io", "certificatesigningrequests")
        self._requests = Mirror(objects, self._kind, self._wake.set)

    async def __aenter__(self) -> Self:
        for key in ("ca_cert_file", "ca_key_file"):
            path = getattr(self._settings, key)
            try:
                if path:
                    await asyncio.to_thread(Path(path).read_bytes)
            except OSError as exc:
                problem = f"{path} cannot be read: {exc.strerror}"
                raise ConfigError(SETTINGS, f"certificates.{key}", problem) from exc
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._requests.run(), name=self.name)
            await pass_after_changes(
                "certificate requests",
                self._wake,
                lambda: self._requests.synced,
                self._pass,
                idle_s=SWEEP_S,
            )

    async def _pass(self) -> bool:
        """Bring every request one step further; return whether a write failed that may pass later."""
        failed = False
        for request in list(self._requests.objects.values()):
            try:
                await self._tend(request)
            except ApiStatusError as exc:
                # 404, 409: it went or changed meanwhile, and its event is on its way.
                failed = failed or exc.status not in (404, 409)
                logger.debug("certificate request %s: %s", request["metadata"]["name"], exc)
            except ValueError as exc:  # stored by a release that took more for a request
                logger.warning("certificate request %s: %s", request["metadata"]["name"], exc)
        return failed

    async def _tend(self, request: Object) -> None:
        if is_outdated(request, self._clock()):
            await self._objects.delete(self._kind, "", request["metadata"]["name"])
            return
        decided = conditions_of(request)
        if request.get("status", {}).get("certificate") or "Failed" in decided:
            return
        if not decided & {"Approved", "Denied"}:
            await self._approve(request)
        elif "Denied" not in decided and request["spec"]["signerName"] in OWN_SIGNERS:
            await self._sign(request)

    async def _approve(self, request: Object) -> None:
        """Approve what asks for a node's own client certificate, if who asks may; all else is for people."""
        spec = request["spec"]
        if spec["signerName"] != KUBELET_CLIENT:
            return
        wanted = _read(request)
        if wanted.problem_for(KUBELET_CLIENT, spec["usages"]):
            return
        for subresource, message in _APPROVERS:
            own = wanted.common_name == spec.get("username")
            if (own or subresource == "nodeclient") and self._may_ask(spec, subresource):
                await self._condition(request, "Approved", "AutoApproved", message, "approval")
                logger.info(
                    "certificate request approved", extra={"request": request["metadata"]["name"]}
                )
                return

    async def _sign(self, request: Object) -> None:
        spec, name = request["spec"], request["metadata"]["name"]
        wanted = _read(request)
        if problem := wanted.problem_for(spec["signerName"], spec["usages"]):
            reason = "SignerValidationFailure"
            await self._condition(request, "Failed", reason, problem, "status")
            return
        if not self._settings.ca_key_file:
            logger.debug("certificate request %s waits: certificates.ca_key_file is not set", name)
            return
        asked = spec.get("expirationSeconds") or self._settings.duration_s
        seconds = int(min(asked, self._settings.duration_s))
        signer = await asyncio.to_thread(self._authority)
        if signer is None:
            return
        try:
            made = await asyncio.to_thread(
                signer.sign, wanted, spec["usages"], seconds, self._clock()
            )
        except (
            ValueError,
            TypeError,
        ) as exc:  # a key that nobody signs, or an authority that has ended
            await self._condition(request, "Failed", "SignerValidationFailure", str(exc), "status")
            return
        status = {**(request.get("status") or {}), "certificate": base64.b64encode(made).decode()}
        await self._objects.update(
            self._kind, "", name, {**request, "status": status}, subresource="status"
        )
        logger.info("certificate issued", extra={"request": name, "signer": spec["signerName"]})

    async def _condition(
        self, request: Object, kind: str, reason: str, message: str, subresource: str
    ) -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        status = request.get("status") or {}
        conditions = [*(status.get("conditions") or ()), condition]
        changed = {**request, "status": {**status, "conditions": conditions}}
        name = request["metadata"]["name"]
        await self._objects.update(self._kind, "", name, changed, subresource=subresource)

    def _authority(self) -> Signer | None:
        """Return what signs, loaded at its first use; None, and a line in the log, if it cannot be used."""
        from kubecore.values.signing_requests import Signer  # late: see there

        cert_file, key_file = self._settings.ca_cert_file, self._settings.ca_key_file
        try:
            self._signer = self._signer or Signer(Path(cert_file), Path(key_file))
        except (OSError, ValueError, TypeError) as exc:
            logger.error(
                "certificates.ca_cert_file %s, ca_key_file %s cannot be used: %s",
                cert_file,
                key_file,
                exc,
            )
        return self._signer


def _read(request: Object) -> CertificateRequest:
    from kubecore.values.signing_requests import CertificateRequest  # late: see there

    return CertificateRequest(base64.b64decode(request["spec"]["request"]))


def conditions_of(request: Object) -> set[str]:
    """Return the types of a request's conditions."""
    return {c.get("type", "") for c in request.get("status", {}).get("conditions") or ()}


def is_outdated(request: Object, now_s: float) -> bool:
    """Return whether nobody will ask for this request any more."""
    status = request.get("status") or {}
    certificate = status.get("certificate")
    conditions = status.get("conditions") or []
    for condition in conditions:
        kind, since = condition.get("type"), condition.get("lastUpdateTime")
        done = kind in ("Denied", "Failed") or (kind == "Approved" and certificate)
        if done and since and now_s - parse_rfc3339(since) > DONE_S:
            return True
    if certificate:
        from kubecore.values.signing_requests import ends_at_s  # late: see there

        end_s = ends_at_s(base64.b64decode(certificate))
        return end_s is not None and end_s < now_s
    return now_s - parse_rfc3339(request["metadata"]["creationTimestamp"]) > WAITING_S
