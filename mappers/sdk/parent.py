"""A mapper that is run by edgecore ends with it, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal

from corekit.errors import SETTINGS, ConfigError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with(parent: int) -> None:
    """Have the kernel send this process SIGTERM when its parent, of process id `parent`, is gone.

    An edgecore that was killed cannot end its mappers, and the next one starts its own: two would drive one device.

    Raises:  ConfigError: `parent` is not the parent, or is gone already.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # looked at afterwards: it may have gone just before
        raise ConfigError(SETTINGS, "--parent", f"process {parent} is not the parent of this one")
