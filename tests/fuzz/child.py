"""Fuzz one target under atheris until libFuzzer's limits end the process.

python -m tests.fuzz.child TARGET PROGRAM ARGUMENT...   PROGRAM starts the same again: merging runs in processes of
its own, which libFuzzer starts by the name it was given.
"""

from __future__ import annotations

import sys

import atheris

# Only imports inside the block are measured, so nothing of ours may be imported above it.
OURS = ["armadillo", "cloudcore", "corekit", "devicemodels", "edgecore", "kubecore", "synccore"]
with atheris.instrument_imports(include=OURS):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    atheris.Setup(sys.argv[2:], TARGETS[sys.argv[1]])
    atheris.Fuzz()
