"""Credentials for registries from programs of the node, by kubelet's exec protocol; asked only for a pull.

Source:  credentialprovider.kubelet.k8s.io/v1: a CredentialProviderRequest on stdin, a CredentialProviderResponse
         on stdout.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from corekit.errors import EdgeError
from corekit.logs import RepeatedFault
from edgecore.edged.images.credentialcache import CACHE_KEY_TYPES, Answer, Auths, CredentialCache
from edgecore.edged.images.keyring import matches, split_image
from edgecore.edged.images.providerconfig import Provider, parse_duration
from edgecore.edged.runtime import RegistryAuth

logger = logging.getLogger(__name__)

LIMIT_S = 60.0  # kubelet's
MAX_OUTPUT_BYTES = (
    1 << 20
)  # a token is a few KiB; a program that babbles must not fill the node's memory
REAP_LIMIT_S = 5.0  # of waiting for a killed program
SHOWN_CHARACTERS = 300  # of what a failed program says


class ProviderFailedError(EdgeError):
    """A program gave no credentials; the pull goes on without."""


class _Auth(msgspec.Struct):
    username: str = ""
    password: str = ""


class _Response(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    cache_key_type: str
    cache_duration: str | None = None
    auth: dict[str, _Auth] | None = None


class CredentialProviders:
    """All credential providers of a node: the `CredentialSource` of its puller.

    Shapes:  folder: where the programs lie. clock: seconds; the default goes on while the machine sleeps.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        folder: Path,
        *,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        limit_s: float = LIMIT_S,
    ) -> None:
        self._asked = [_Asked(provider, folder, clock, limit_s) for provider in providers]

    async def auths(self, image: str, /) -> list[RegistryAuth]:
        """Return what may be tried for `image`: the most specific first, of equals the earlier provider's."""
        # As kubelet asks: for the repository, with its registry and without tag or digest.
        name = "/".join(split_image(image))
        found: list[tuple[str, RegistryAuth]] = []
        for asked in self._asked:
            found += [
                (key, a) for key, a in (await asked.auths(name)).items() if matches(key, name)
            ]
        found.sort(key=lambda pair: pair[0], reverse=True)  # keeps the order of equals
        return list(dict.fromkeys(auth for _, auth in found))


class _Asked:
    """One provider with what it has said before."""

    def __init__(
        self, provider: Provider, folder: Path, clock: Callable[[], float], limit_s: float
    ) -> None:
        self._provider, self._program = provider, folder / provider.name
        self._clock, self._limit_s = clock, limit_s
        self._cache = CredentialCache()
        # One question per image at a time: who comes second finds the answer kept. A lock lives while it is held.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._fault = RepeatedFault(logger, f"credential provider {provider.name}")

    async def auths(self, image: str) -> Auths:
        """Return all that the program says when asked for `image`; nothing if that is not its image, or it fails."""
        if not any(matches(pattern, image) for pattern in self._provider.match_images):
            return {}
        turn = self._turns.setdefault(image, asyncio.Lock())
        async with turn:
            if (kept := self._cache.get(image, self._clock())) is not None:
                return kept
            try:
                output = await run_program(self._program, self._provider, image, self._limit_s)
                answer = read_answer(output, self._provider)
            except ProviderFailedError as exc:
                self._fault.failed(exc)
                return {}
            self._fault.cleared()
            self._cache.put(image, answer, self._clock())
            return answer.auths


def read_answer(output: bytes, provider: Provider) -> Answer:
    """Return what a CredentialProviderResponse says. Raises: ProviderFailedError, which quotes no credential."""
    try:
        response = msgspec.json.decode(output, type=_Response)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ProviderFailedError("its answer is no CredentialProviderResponse") from exc
    if response.kind != "CredentialProviderResponse":
        raise ProviderFailedError(f"its answer has the kind {_shown(response.kind)!r}")
    if response.api_version != provider.api_version:
        version = _shown(response.api_version)
        raise ProviderFailedError(f"its answer is of {version!r}, not {provider.api_version}")
    if response.cache_key_type not in CACHE_KEY_TYPES:
        wrong, allowed = _shown(response.cache_key_type), ", ".join(CACHE_KEY_TYPES)
        raise ProviderFailedError(f"cacheKeyType {wrong!r} of its answer is not one of {allowed}")
    keep_s = provider.default_keep_s
    if response.cache_duration is not None:
        try:
            keep_s = parse_duration(response.cache_duration)
        except ValueError as exc:
            raise ProviderFailedError(f"cacheDuration of its answer: {_shown(str(exc))}") from exc
    auths = {
        key: RegistryAuth(username=auth.username, password=auth.password)
        for key, auth in (response.auth or {}).items()
    }
    return Answer(auths, response.cache_key_type, keep_s)


async def run_program(program: Path, provider: Provider, image: str, limit_s: float) -> bytes:
    """Return what `program` prints when asked for `image`. Raises: ProviderFailedError."""
    kind = "CredentialProviderRequest"
    request = {"apiVersion": provider.api_version, "kind": kind, "image": image}
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *(provider.args or ()),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=os.environ | {v.name: v.value for v in provider.env or ()},
            start_new_session=True,  # so that what it starts can be ended with it
        )
    except OSError as exc:
        raise ProviderFailedError(f"{program}: {exc.strerror}") from exc
    try:
        async with asyncio.timeout(limit_s):
            output, said = await _talk(process, msgspec.json.encode(request) + b"\n")
            status = await process.wait()
    except TimeoutError as exc:
        raise ProviderFailedError(f"no answer for {image} within {limit_s:g} s") from exc
    finally:
        await _end(process)
    if status:
        text = _shown(said.decode(errors="replace"))
        raise ProviderFailedError(f"exit status {status} for {image}{': ' if text else ''}{text}")
    if len(output) > MAX_OUTPUT_BYTES:
        raise ProviderFailedError(f"its answer is larger than {MAX_OUTPUT_BYTES} bytes")
    return output


async def _talk(process: asyncio.subprocess.Process, request: bytes) -> tuple[bytes, bytes]:
    """Give the program its question, and return what it prints on both ways out."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.TaskGroup() as group:
        output = group.create_task(_read(process.stdout))
        said = group.create_task(_read(process.stderr))
        with suppress(ConnectionError):  # it need not read the question
            process.stdin.write(request)
            await process.stdin.drain()
        process.stdin.close()
    return output.result(), said.result()


async def _read(stream: asyncio.StreamReader) -> bytes:
    """Return all of `stream`; of what is too much, only so much that it shows."""
    kept = bytearray()
    while piece := await stream.read(1 << 16):
        if len(kept) <= MAX_OUTPUT_BYTES:
            kept += piece
    return bytes(kept)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the program with all that it started, if it has not ended itself."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(REAP_LIMIT_S):
            await process.wait()


def _shown(text: str) -> str:
    return " ".join(text.split())[:SHOWN_CHARACTERS]
