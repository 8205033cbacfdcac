"""Private keys that are not private: said once, at start, with what to do."""

from __future__ import annotations

import logging
import stat
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)


def warn_of_open_key(path: str) -> None:
    """Log a warning if every user of this machine may read or change the file at `path`.

    A group may: services read keys of root's by theirs.
    """
    with suppress(OSError):  # said, with its name, by who reads it
        mode = stat.S_IMODE(Path(path).stat().st_mode)
        if mode & stat.S_IRWXO:
            logger.warning(
                "%s: mode %04o lets every user of this machine at the key; chmod o= %s",
                path,
                mode,
                path,
            )
