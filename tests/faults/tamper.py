"""A stream that loses, repeats, replays and swaps messages: what no honest transport does (F15)."""

from __future__ import annotations

import random
from collections import deque

from synccore.messages import Ack, Frame

# What was sent before and may come again.
REPLAYED = 32


class Tampering:
    """What is done to frames and acknowledgements, and how often; off until `change()`."""

    def __init__(self) -> None:
        self.rate, self.count, self._random = 0.0, 0, random.Random(0)

    def change(self, rate: float = 0.0, seed: int = 0) -> None:
        """Spoil that share of messages from now on."""
        self.rate, self._random = rate, random.Random(seed)

    def spoil(self, message, held, past):
        """Return what passes instead of `message`, in order."""
        if not isinstance(message, Frame | Ack) or self._random.random() >= self.rate:
            passing = [message, *held]
            held.clear()
            return passing
        self.count += 1
        match self._random.choice(("drop", "repeat", "replay", "swap")):
            case "drop":
                return []
            case "repeat":
                return [message, message]
            case "replay":
                return [message, self._random.choice(past)] if past else [message]
            case _:
                held.append(message)  # passes after the next one
                return []


class TamperedStream:
    """A `SyncStream` around a real one."""

    def __init__(self, stream, tampering: Tampering) -> None:
        self._stream, self._tampering = stream, tampering
        self._ready: deque = deque()
        self._held = {"up": [], "down": []}
        self._past = {way: deque(maxlen=REPLAYED) for way in ("up", "down")}

    async def send(self, messages):
        if not self._tampering.rate and not self._held["up"]:
            await self._stream.send(messages)
            return
        passing = []
        for message in messages:
            passing += self._spoil("up", message)
        await self._stream.send(passing)

    async def receive(self):
        while not self._ready:
            self._ready += self._spoil("down", await self._stream.receive())
        return self._ready.popleft()

    def _spoil(self, way, message):
        passing = self._tampering.spoil(message, self._held[way], self._past[way])
        if isinstance(message, Frame | Ack):
            self._past[way].append(message)
        return passing
