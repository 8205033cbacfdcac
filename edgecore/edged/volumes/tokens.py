"""Service account tokens of the node's pods: asked for once, renewed early, kept in the database, never without one.

A token is replaced, never deleted before its replacement is durable. Without a link the last one goes on being
served, beyond its end too: whoever trusts it offline (a broker, another pod) knows better than we.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from corekit.backoff import Backoff
from corekit.timestamps import parse_rfc3339
from edgecore.edged.spec.podspec import Pod, ProjectedToken
from edgecore.records import Commit, RecordStore, Uplink
from synccore.asking import AskError

logger = logging.getLogger(__name__)

OWNER = (
    "edged-tokens"  # of what is kept with Commit.local, key: <pod uid>/<hash of what was asked for>
)
KIND = "TokenRequest"
# kubelet's rule: at four fifths of its life or after a day, a little earlier by chance so that not all ask at once.
RENEW_AT_LIFE = 0.8
RENEW_AFTER_S = 24 * 3600.0
JITTER_S = 10.0
RETRY_S = (5.0, 300.0)
# Half of what one node may have under way (docs/protocol.md, section 10).
MAX_AT_ONCE = 32


class Token(msgspec.Struct, frozen=True):
    """One token as it is kept. Units: Unix seconds by this node's clock; expires_s by the cloud's."""

    token: str
    obtained_s: float
    expires_s: float
    life_s: float


class _Answer(msgspec.Struct, rename="camel"):
    token: str
    expiration_timestamp: str


_answers = msgspec.json.Decoder(_Answer)
_kept = msgspec.json.Decoder(Token)


@dataclass(frozen=True, slots=True)
class TokenView:
    """What a pod's volumes can show now.

    Shapes:  contents: by source, present if there is a token at all. problems: why there is none, by source.
             expired: kubelet's kind of sentence for each token that is served beyond its end.
    """

    contents: Mapping[ProjectedToken, bytes] = field(default_factory=dict)
    problems: Mapping[ProjectedToken, str] = field(default_factory=dict)
    expired: tuple[str, ...] = ()


@dataclass(slots=True)
class _Retry:
    at_s: float
    backoff: Backoff
    problem: str


class TokenManager:
    """The tokens of all pods of the node."""

    def __init__(
        self, store: RecordStore, uplink: Uplink | None, clock: Callable[[], float]
    ) -> None:
        self._store, self._uplink, self._clock = store, uplink, clock
        self._tokens: dict[str, Token] = {}
        self._retries: dict[str, _Retry] = {}
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._rng = random.Random()

    async def load(self) -> None:
        """Read what is kept: a node that boots without a link starts its pods from it."""
        for key, note in (await self._store.local(OWNER)).items():
            try:
                self._tokens[key] = _kept.decode(note)
            except (msgspec.DecodeError, ValueError) as exc:  # of another version of this program
                logger.warning("kept token %s does not decode: %s", key, exc)

    async def view(self, pod: Pod) -> TokenView:
        """Return the tokens of `pod`, fetching those that are missing or due."""
        sources = token_sources(pod)
        if not sources:
            return TokenView()
        wanted = {_key(pod, source): source for source in sources}  # two paths may show one token
        await asyncio.gather(*(self._refresh(pod, source) for source in wanted.values()))
        contents: dict[ProjectedToken, bytes] = {}
        problems: dict[ProjectedToken, str] = {}
        expired = []
        for source in sources:
            key = _key(pod, source)
            token = self._tokens.get(key)
            if token is None:
                retry = self._retries.get(key)
                problems[source] = retry.problem if retry else "no token"
                continue
            contents[source] = token.token.encode()
            if self._clock() >= token.expires_s:
                expired.append(
                    f'token "{source.path}" of service account {_account(pod)} expired; the last one '
                    "is served until the cloud can be asked again"
                )
        return TokenView(contents, problems, tuple(expired))

    def due_s(self, pod: Pod) -> float | None:
        """Return when a token of `pod` must be looked at again, None if it has none."""
        return min((self._due_s(_key(pod, s)) for s in token_sources(pod)), default=None)

    def retry_now(self) -> None:
        """Forget all waits: the cloud can be reached again."""
        for retry in self._retries.values():
            retry.at_s = 0.0

    async def forget(self, uid: str) -> None:
        """Drop the tokens of a pod that is gone."""
        await self._drop(lambda owner: owner == uid)

    async def keep_only(self, uids: Collection[str]) -> None:
        """Drop the tokens of all other pods: they went while the agent did not run."""
        await self._drop(lambda owner: owner not in uids)

    async def _drop(self, goes: Callable[[str], bool]) -> None:
        gone = [key for key in self._tokens if goes(key.partition("/")[0])]
        for key in [key for key in self._retries if goes(key.partition("/")[0])]:
            del self._retries[key]
        if gone:
            await self._store.commit(Commit(local={(OWNER, key): None for key in gone}))
        for key in gone:
            self._tokens.pop(key, None)

    def _due_s(self, key: str) -> float:
        token, retry = self._tokens.get(key), self._retries.get(key)
        if retry is not None:
            return retry.at_s
        if (
            token is None or self._clock() < token.obtained_s - JITTER_S
        ):  # or the clock was set back
            return 0.0
        return token.obtained_s + min(token.life_s * RENEW_AT_LIFE, RENEW_AFTER_S)

    async def _refresh(self, pod: Pod, source: ProjectedToken) -> None:
        key = _key(pod, source)
        if self._clock() < self._due_s(key):
            return
        try:
            async with self._slots:
                token = await self._ask(pod, source)
        except AskError as exc:
            self._failed(key, pod, exc)
            return
        # Durable first: a token that only a file has would be lost with the next boot.
        await self._store.commit(Commit(local={(OWNER, key): msgspec.json.encode(token)}))
        self._tokens[key] = token
        if self._retries.pop(key, None) is not None:
            logger.info("token renewed", extra=_extra(pod))

    async def _ask(self, pod: Pod, source: ProjectedToken) -> Token:
        if self._uplink is None:
            raise AskError(KIND, 0, "no link to cloudcore")
        question = {
            "namespace": pod.metadata.namespace,
            "serviceAccount": _account(pod),
            "audiences": [source.audience] if source.audience else [],
            "expirationSeconds": source.expiration_seconds,
            "pod": {"name": pod.metadata.name, "uid": pod.metadata.uid},
        }
        raw = await self._uplink.ask(KIND, msgspec.json.encode(question))
        now_s = self._clock()
        try:
            answer = _answers.decode(raw)
            expires_s = parse_rfc3339(answer.expiration_timestamp)
        except (msgspec.DecodeError, ValueError, RecursionError) as exc:
            raise AskError(KIND, 502, f"the answer does not decode: {exc}") from exc
        life_s = expires_s - now_s
        if not 0 < life_s <= 2 * max(source.expiration_seconds, RENEW_AFTER_S):
            life_s = float(source.expiration_seconds)  # this node's clock is off: the token is not
        life_s -= self._rng.uniform(0.0, min(JITTER_S, life_s / 10))
        return Token(answer.token, now_s, expires_s, life_s)

    def _failed(self, key: str, pod: Pod, exc: AskError) -> None:
        retry, now_s = self._retries.get(key), self._clock()
        backoff = retry.backoff if retry else Backoff(*RETRY_S)
        text = exc.reason if exc.status else "cloudcore cannot be reached"
        self._retries[key] = _Retry(
            now_s + max(backoff.next_delay_s(), RETRY_S[0]),
            backoff,
            f"failed to fetch token: {text}",
        )
        if key in self._tokens and retry is None:
            message = "token not renewed, the last one goes on being served: %s"
            logger.warning(message, exc, extra=_extra(pod))
        else:
            logger.debug("no token: %s", exc, extra=_extra(pod))


def token_sources(pod: Pod) -> list[ProjectedToken]:
    """Return every token that the volumes of `pod` show, each once."""
    found = {
        source.service_account_token: None
        for volume in pod.spec.volumes
        if volume.projected is not None
        for source in volume.projected.sources
        if source.service_account_token is not None
    }
    return list(found)


def _account(pod: Pod) -> str:
    return pod.spec.service_account_name or "default"


def _key(pod: Pod, source: ProjectedToken) -> str:
    asked = repr((_account(pod), source.audience, source.expiration_seconds)).encode()
    return f"{pod.metadata.uid}/{hashlib.sha256(asked).hexdigest()[:16]}"


def _extra(pod: Pod) -> dict[str, str]:
    return {"pod": f"{pod.metadata.namespace}/{pod.metadata.name}"}
