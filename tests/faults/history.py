"""The history of one run: every operation and acknowledgement, in order, as JSON lines that can be checked again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class History:
    """Events of one run; also in a file, so that a failed run can be read."""

    def __init__(self, path: Path) -> None:
        self.path, self.events = path, list[Json]()
        self._file = path.open("w")
        self._began_s = time.monotonic()

    def add(self, event: str, **fields: Any) -> None:
        """Append one event."""
        said = {"e": event, "at": round(time.monotonic() - self._began_s, 4), **fields}
        self.events.append(said)
        self._file.write(json.dumps(said) + "\n")

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()

    def count(self, event: str) -> int:
        """Return how many events of that name there are."""
        return sum(said["e"] == event for said in self.events)


def read_history(path: Path) -> list[Json]:
    """Return the events of a file that a run wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]
