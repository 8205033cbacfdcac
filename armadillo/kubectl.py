"""The user's own kubectl, called for JSON: contexts, credentials and proxies are those the user has already."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from corekit.errors import EdgeError

Json = dict[str, Any]


class KubectlError(EdgeError):
    """kubectl ended with an error; `said` is what it wrote, empty if the user has seen it already."""

    def __init__(self, status: int, said: str = "") -> None:
        self.status, self.said = status, said
        super().__init__(said or f"kubectl ended with status {status}")


@dataclass
class Kubectl:
    """Calls kubectl with the flags that say which cluster. Shapes: flags: as kubectl takes them."""

    flags: list[str] = field(default_factory=list)

    def json(self, *args: str, quiet: bool = False) -> Json:
        """Return what kubectl prints with `-o json`; `quiet`: what it says of an error is in the exception.

        Raises:  KubectlError.
        """
        command = ["kubectl", *args, *self.flags, "-o", "json"]
        stderr = subprocess.PIPE if quiet else None
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, check=False)
        except FileNotFoundError:
            raise KubectlError(1, "kubectl is not on the PATH") from None
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip() if quiet else ""
            raise KubectlError(done.returncode, said)
        answer: Json = json.loads(done.stdout)
        return answer

    def items(self, *args: str) -> list[Json]:
        """Return the items of a list. Raises: KubectlError."""
        items: list[Json] = self.json(*args)["items"]
        return items

    def watch(self, *args: str, deadline_s: float) -> Iterator[Json]:
        """Yield an object as it is, then each time it changes; end when `deadline_s` is over.

        Raises:  KubectlError: kubectl ended by itself, with an error.
        """
        command = ["kubectl", *args, *self.flags, "--watch", "-o", "json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            timer = threading.Timer(deadline_s, process.terminate)
            timer.start()
            try:
                assert process.stdout is not None
                yield from documents(process.stdout)
                if timer.is_alive() and process.wait() != 0:
                    raise KubectlError(process.returncode)
            finally:
                timer.cancel()
                process.terminate()


def documents(lines: Iterator[str]) -> Iterator[Json]:
    """Yield each JSON object of a stream in which they follow one another, printed over many lines."""
    held: list[str] = []
    for line in lines:
        held.append(line)
        # kubectl indents: only the end of a whole object begins at the margin.
        if line.startswith("}"):
            yield json.loads("".join(held))
            held.clear()
