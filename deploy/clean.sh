#!/bin/sh
# Stop what the last `make up` left running, then remove what was made here: state, environment, caches.
set -eu
cd "$(dirname "$0")/.."
if [ -d .armadillo ]; then
    # Containers and mounts first: a folder with live mounts below cannot be removed.
    .venv/bin/python -m armadillo down --state .armadillo --purge ||
        { echo "clean: something still runs in .armadillo; see above" >&2; exit 1; }
fi
rm -rf .venv build dist ./*.egg-info synccore/*.c synccore/*.so
rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
find . -name __pycache__ -type d -prune -exec rm -rf {} +
