"""Binds claims to volumes, keeps their phases, protects what is in use, and makes the claims of ephemeral volumes.

The controllers persistentvolume-binder, pvc-protection, pv-protection and ephemeral-volume of upstream in one loop:
an embedded cluster has few volumes, so each pass looks at all of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, Self

from kubecore.controllers.claims import (
    BIND_COMPLETED,
    Volumes,
    claim_names,
    class_name,
    fits_node,
    is_bound_to,
    is_complete,
    refers_to,
)
from kubecore.controllers.event_objects import event_about, record
from kubecore.controllers.mirror import Mirror, ObjectClient, builtin, key_of
from kubecore.controllers.passes import pass_after_changes
from kubecore.errors import ApiStatusError

logger = logging.getLogger(__name__)

Object = dict[str, Any]
Key = tuple[str, str]

CLAIM_FINALIZER = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER = "kubernetes.io/pv-protection"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
COMPONENT = "persistentvolume-controller"
SETTLE_S = 0.02
MAX_SAID = 4096  # events that were written; beyond it some are written twice


class VolumeBinder:
    """Component: one pass over everything after each burst of changes."""

    name = "volumebinder"

    def __init__(self, client: ObjectClient, *, clock: Callable[[], float] = time.time) -> None:
        self._client, self._clock = client, clock
        self._wake = asyncio.Event()
        self._pods = self._mirror("", "pods")
        self._nodes = self._mirror("", "nodes")
        self._claims = self._mirror("", "persistentvolumeclaims")
        self._volumes = self._mirror("", "persistentvolumes")
        self._classes = self._mirror("storage.k8s.io", "storageclasses")
        self._said: dict[tuple[str, str], str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            for mirror in self._mirrors:
                group.create_task(mirror.run(), name=self.name)
            await pass_after_changes(
                "volumes",
                self._wake,
                lambda: all(mirror.synced for mirror in self._mirrors),
                self._pass,
                settle_s=SETTLE_S,
            )

    @property
    def _mirrors(self) -> tuple[Mirror, ...]:
        return self._pods, self._nodes, self._claims, self._volumes, self._classes

    def _mirror(self, group: str, plural: str) -> Mirror:
        return Mirror(self._client, builtin(self._client, group, plural), self._wake.set)

    async def _pass(self) -> bool:
        """Bring everything one step further; return whether a write failed that may pass later."""
        failed = False
        steps: list[tuple[Callable[[Object], Any], Iterable[Object]]] = [
            (self._make_claims, self._pods.objects.values()),
            (self._see_to_claim, self._claims.objects.values()),
            (self._see_to_volume, self._volumes.objects.values()),
        ]
        for step, objects in steps:
            for obj in list(objects):
                try:
                    await step(obj)
                except ApiStatusError as exc:
                    # 404, 409: it went or changed meanwhile, and its event is on its way.
                    failed = failed or exc.status not in (404, 409)
                    logger.debug("%s %s: %s", obj.get("kind"), obj["metadata"]["name"], exc)
        return failed

    # Ephemeral volumes.

    async def _make_claims(self, pod: Object) -> None:
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata:
            return
        for volume in pod["spec"].get("volumes") or ():
            template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
            name = f"{metadata['name']}-{volume['name']}"
            if template is None or (metadata["namespace"], name) in self._claims.objects:
                continue
            owner = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"]}
            owner |= {"uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}
            labels = template.get("metadata") or {}
            made = {
                "metadata": {
                    "name": name,
                    "labels": labels.get("labels") or {},
                    "annotations": labels.get("annotations") or {},
                    "ownerReferences": [owner],
                },
                "spec": template.get("spec") or {},
            }
            resource = builtin(self._client, "", "persistentvolumeclaims")
            await self._client.create(resource, metadata["namespace"], made)

    # Claims.

    async def _see_to_claim(self, claim: Object) -> None:
        if "deletionTimestamp" in claim["metadata"]:
            if not self._is_used(claim):
                await self._drop_finalizer("persistentvolumeclaims", claim, CLAIM_FINALIZER)
            return
        await self._add_finalizer("persistentvolumeclaims", claim, CLAIM_FINALIZER)
        if is_complete(claim):
            if self._world.volume_of(claim) is None:
                await self._lose(claim)
            else:
                await self._report_bound(claim, self._world.volume_of(claim) or {})
        elif (volume := self._choice(claim)) is not None:
            await self._bind(claim, volume)
        else:
            await self._explain(claim)

    @property
    def _world(self) -> Volumes:
        return Volumes(self._claims.objects, self._volumes.objects, self._classes.objects)

    def _choice(self, claim: Object) -> Object | None:
        world = self._world
        if claim["spec"].get("volumeName") or not world.waits_for_consumer(claim):
            return world.find(claim)
        nodes = [self._nodes.objects.get(("", node)) for node in self._consumers(claim)]
        for node in nodes:
            if node is not None:
                return world.find(claim, partial(fits_node, node=node))
        return None

    def _consumers(self, claim: Object) -> list[str]:
        """Return the nodes of pods that use `claim`."""
        users = [pod for pod in self._pods.objects.values() if _uses(pod, claim)]
        return [pod["spec"]["nodeName"] for pod in users if pod["spec"].get("nodeName")]

    def _is_used(self, claim: Object) -> bool:
        return any(
            _uses(pod, claim)
            and pod["spec"].get("nodeName")
            and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
            for pod in self._pods.objects.values()
        )

    async def _bind(self, claim: Object, volume: Object) -> None:
        meta, by_us = claim["metadata"], not (volume["spec"].get("claimRef") or {}).get("uid")
        if by_us:
            reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
            reference |= {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
            patch = {
                "metadata": {
                    "resourceVersion": volume["metadata"]["resourceVersion"],
                    "annotations": {BOUND_BY_CONTROLLER: "yes"},
                },
                "spec": {"claimRef": reference},
            }
            volume = await self._patch("persistentvolumes", volume, patch)
            self._volumes.objects[key_of(volume)] = (
                volume  # taken: not for the next claim of this pass
            )
        annotations = {BIND_COMPLETED: "yes"}
        if not claim["spec"].get("volumeName"):
            annotations[BOUND_BY_CONTROLLER] = "yes"
        patch = {
            "metadata": {"annotations": annotations},
            "spec": {"volumeName": volume["metadata"]["name"]},
        }
        if claim["spec"].get("storageClassName") is None and class_name(volume):
            patch["spec"]["storageClassName"] = class_name(volume)
        claim = await self._patch("persistentvolumeclaims", claim, patch)
        await self._report_bound(claim, volume)
        name = volume["metadata"]["name"]
        extra = {"claim": f"{meta['namespace']}/{meta['name']}", "volume": name}
        logger.info("claim bound", extra=extra)

    async def _report_bound(self, claim: Object, volume: Object) -> None:
        status = {
            "phase": "Bound",
            "accessModes": volume["spec"].get("accessModes") or [],
            "capacity": volume["spec"].get("capacity") or {},
        }
        await self._report("persistentvolumeclaims", claim, status)

    async def _lose(self, claim: Object) -> None:
        name = claim["spec"].get("volumeName")
        if claim.get("status", {}).get("phase") != "Lost":
            text = (
                f'Bound claim has lost its PersistentVolume "{name}". Data on the volume is lost!'
            )
            await self._say(claim, "Warning", "ClaimLost", text)
            await self._report("persistentvolumeclaims", claim, {"phase": "Lost"})

    async def _explain(self, claim: Object) -> None:
        """Say why a claim waits; take the default class where it names none."""
        world, wanted = self._world, class_name(claim)
        if claim["spec"].get("storageClassName") is None and (default := world.default_class()):
            patch = {"spec": {"storageClassName": default}}
            await self._patch("persistentvolumeclaims", claim, patch)
            return
        name = claim["spec"].get("volumeName")
        if name:
            text = f'volume "{name}" does not exist, is bound to another claim, or does not match'
            await self._say(claim, "Warning", "FailedBinding", text)
        elif not wanted:
            text = "no persistent volumes available for this claim and no storage class is set"
            await self._say(claim, "Normal", "FailedBinding", text)
        elif world.class_of(claim) is None:
            text = f'storageclass.storage.k8s.io "{wanted}" not found'
            await self._say(claim, "Warning", "ProvisioningFailed", text)
        elif world.waits_for_consumer(claim) and not self._consumers(claim):
            text = "waiting for first consumer to be created before binding"
            await self._say(claim, "Normal", "WaitForFirstConsumer", text)
        else:
            text = f'no persistent volumes of storage class "{wanted}" available for this claim'
            await self._say(claim, "Normal", "FailedBinding", text)

    # Volumes.

    async def _see_to_volume(self, volume: Object) -> None:
        phase, message = self._phase(volume)
        if "deletionTimestamp" in volume["metadata"]:
            if phase != "Bound":
                await self._drop_finalizer("persistentvolumes", volume, VOLUME_FINALIZER)
            return
        await self._add_finalizer("persistentvolumes", volume, VOLUME_FINALIZER)
        if message:
            reason = "VolumeFailedRecycle" if "recycl" in message else "VolumeFailedDelete"
            await self._say(volume, "Warning", reason, message)
        await self._report(
            "persistentvolumes", volume, {"phase": phase, "message": message or None}
        )

    def _phase(self, volume: Object) -> tuple[str, str]:
        """Return a volume's phase, and for one that cannot be freed the reason."""
        reference = volume["spec"].get("claimRef")
        if not reference or not reference.get("uid"):
            return "Available", ""
        key = (reference.get("namespace", ""), reference.get("name", ""))
        claim = self._claims.objects.get(key)
        if claim is not None and is_bound_to(volume, claim):
            taken = claim["spec"].get("volumeName") in (None, "", volume["metadata"]["name"])
            return ("Bound" if taken and refers_to(volume, claim) else "Available"), ""
        name = volume["metadata"]["name"]
        match volume["spec"].get("persistentVolumeReclaimPolicy", "Retain"):
            case "Delete":
                text = f'error getting deleter volume plugin for volume "{name}": '
                return "Failed", f"{text}no deletable volume plugin matched"
            case "Recycle":
                return "Failed", "no recyclable volume plugin matched"
        return "Released", ""

    # Writing.

    async def _add_finalizer(self, plural: str, obj: Object, finalizer: str) -> None:
        present = obj["metadata"].get("finalizers") or []
        if finalizer not in present:
            await self._patch(plural, obj, {"metadata": {"finalizers": [*present, finalizer]}})

    async def _drop_finalizer(self, plural: str, obj: Object, finalizer: str) -> None:
        present = obj["metadata"].get("finalizers") or []
        if finalizer in present:
            left = [one for one in present if one != finalizer]
            await self._patch(plural, obj, {"metadata": {"finalizers": left or None}})

    async def _report(self, plural: str, obj: Object, status: Object) -> None:
        before = obj.get("status") or {}
        if any(before.get(key) != value for key, value in status.items()):
            await self._patch(plural, obj, {"status": status}, subresource="status")

    async def _patch(
        self, plural: str, obj: Object, patch: Object, *, subresource: str = ""
    ) -> Object:
        resource, (namespace, name) = builtin(self._client, "", plural), key_of(obj)
        made: Object = await self._client.patch(
            resource, namespace, name, patch, subresource=subresource
        )
        return made

    async def _say(
        self, obj: Object, kind: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        key = (obj["metadata"]["uid"], reason)
        if self._said.get(key) == message:
            return
        if len(self._said) >= MAX_SAID:
            self._said.clear()
        self._said[key] = message
        event = event_about(obj, kind, reason, message, component=COMPONENT, now_s=self._clock())
        await record(self._client, event)


def _uses(pod: Object, claim: Object) -> bool:
    meta = claim["metadata"]
    return bool(
        pod["metadata"].get("namespace") == meta["namespace"] and meta["name"] in claim_names(pod)
    )
