"""Fuzz one target under atheris until libFuzzer's limits end the process:  python -m tests.fuzz.child TARGET ARGUMENT..."""

from __future__ import annotations

import sys

import atheris

# Only imports inside the block are measured, so nothing of ours may be imported above it.
OURS = ["armadillo", "cloudcore", "corekit", "devicemodels", "edgecore", "kubecore", "synccore"]
with atheris.instrument_imports(include=OURS):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()
