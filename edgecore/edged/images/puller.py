"""Pulls for the whole node: one at a time, as kubelet's default, or several; with each credential in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from edgecore.edged.runtime import ContainerRuntime, ContainerStartError, ImageState, RegistryAuth

# The prefix by which a CRI runtime says that the registry itself is down; kubelet gives it a word of its own.
_UNAVAILABLE = "RegistryUnavailable"
_SIGNATURE = "SignatureValidationFailed"


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image that was fetched; `total_s` counts the wait for other pulls too."""

    image: ImageState
    pull_s: float
    total_s: float


class CredentialSource(Protocol):
    """What the node itself knows of registries, beside the pull secrets of pods."""

    async def auths(self, image: str, /) -> Sequence[RegistryAuth]:
        """Return what may be tried for `image`, in order; nothing if there is nothing or it cannot be had."""


class ImagePuller:
    """Fetches images; how many at once is the node's setting.

    Shapes:  at_once: 0 for no limit. providers: asked within a pull's turn, so that not all pods of a node that
             boots ask at once; None: there are none.
    """

    def __init__(
        self,
        runtime: ContainerRuntime,
        at_once: int,
        clock: Callable[[], float] = time.monotonic,
        providers: CredentialSource | None = None,
    ) -> None:
        self._runtime, self._clock, self._providers = runtime, clock, providers
        self._turns = asyncio.Semaphore(at_once) if at_once else None

    async def pull(self, reference: str, auths: Sequence[RegistryAuth]) -> Pulled:
        """Fetch `reference`; the first that is let in of `auths`, then of the node's own, does it.

        Without any it is anonymous.
        Raises:  ContainerStartError: InvalidImageName, ErrImagePull, RegistryUnavailable,
                 SignatureValidationFailed.
        """
        asked_s = self._clock()
        async with AsyncExitStack() as stack:
            if self._turns is not None:
                await stack.enter_async_context(self._turns)
            begun_s = self._clock()
            if self._providers is not None:
                auths = [*auths, *await self._providers.auths(reference)]
            image = await self._try_all(reference, list(dict.fromkeys(auths)))
            ended_s = self._clock()
        return Pulled(image, ended_s - begun_s, ended_s - asked_s)

    async def _try_all(self, reference: str, auths: Sequence[RegistryAuth]) -> ImageState:
        problems: list[str] = []
        for auth in auths or (None,):
            try:
                return await self._runtime.pull(reference, auth)
            except ContainerStartError as exc:
                if exc.reason != "ErrImagePull":
                    raise
                problems.append(exc.message)
        raise _named(reference, list(dict.fromkeys(problems)))


def _named(reference: str, problems: Sequence[str]) -> ContainerStartError:
    text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
    last = problems[-1]
    if last.startswith(_UNAVAILABLE):
        detail = last.removeprefix(_UNAVAILABLE).lstrip(": ")
        message = f"image pull failed for {reference} because the registry is unavailable"
        return ContainerStartError(_UNAVAILABLE, f"{message}: {detail}" if detail else message)
    if last.startswith(_SIGNATURE):
        detail = last.removeprefix(_SIGNATURE).lstrip(": ")
        message = f"image pull failed for {reference} because the signature validation failed"
        return ContainerStartError(_SIGNATURE, f"{message}: {detail}" if detail else message)
    return ContainerStartError("ErrImagePull", text)
