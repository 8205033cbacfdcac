"""Answers of a credential provider, kept for as long as and for what they say; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgecore.edged.images.keyring import split_image
from edgecore.edged.runtime import RegistryAuth

MAX_ANSWERS = (
    256  # more images than a node of 110 pods pulls within an hour; the next to expire gives way
)
CACHE_KEY_TYPES = ("Image", "Registry", "Global")

# What a credential is for -> the credential.
Auths = Mapping[str, RegistryAuth]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said.

    Shapes:  key_type: one of CACHE_KEY_TYPES. Units: keep_s: 0 for not at all.
    """

    auths: Auths
    key_type: str
    keep_s: float


class CredentialCache:
    """The answers of one provider; the caller gives the time."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[float, Auths]] = {}

    def get(self, image: str, now_s: float) -> Auths | None:
        """Return what is kept for `image`: of itself, of its registry, or of all; None if nothing is."""
        for key_type in CACHE_KEY_TYPES:
            kept = self._kept.get(_key(key_type, image))
            if kept is not None and now_s <= kept[0]:
                return kept[1]
        return None

    def put(self, image: str, answer: Answer, now_s: float) -> None:
        """Keep the answer to the question for `image`, if it is to be kept."""
        self._kept = {key: kept for key, kept in self._kept.items() if now_s <= kept[0]}
        if answer.keep_s <= 0:
            return
        self._kept[_key(answer.key_type, image)] = (now_s + answer.keep_s, answer.auths)
        if len(self._kept) > MAX_ANSWERS:
            del self._kept[min(self._kept, key=lambda key: self._kept[key][0])]


def _key(key_type: str, image: str) -> tuple[str, str]:
    if key_type == "Global":
        return key_type, ""
    host, path = split_image(image)
    return key_type, host if key_type == "Registry" else f"{host}/{path}"
