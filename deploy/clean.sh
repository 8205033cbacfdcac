#!/bin/sh
# Stop what `make up` left running, then remove what was made here: state, environment, caches.
set -eu
cd "$(dirname "$0")/.."
. deploy/states.sh

note_state "$@"
folders=$(known_states)
[ -z "$folders" ] || while IFS= read -r folder; do
    # Containers and mounts first: a folder with live mounts below cannot be removed.
    deploy/bootstrap.sh run python -m armadillo down --state "$folder" --purge </dev/null ||
        { echo "clean: something still runs in $folder; see above" >&2; exit 1; }
done <<FOLDERS
$folders
FOLDERS
rm -rf .venv build dist ./*.egg-info synccore/*.c synccore/*.so edgecore/eventbus/*.c edgecore/eventbus/*.so "$STATES"
rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
find . -name __pycache__ -type d -prune -exec rm -rf {} +
