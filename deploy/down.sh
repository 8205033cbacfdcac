#!/bin/sh
# Stop what `make up` left running, in every state folder of this checkout or in the one that --state names.
# An environment is made only if there is something to stop.
set -eu
cd "$(dirname "$0")/.."
. deploy/states.sh

down() { deploy/bootstrap.sh run python -m armadillo down "$@"; }

state=$(said_state "$@")
if [ -n "$state" ]; then
    [ -d "$state" ] || { echo "down: --state: $state is not a folder" >&2; exit 2; }
    down "$@"
    exit
fi
folders=$(known_states)
[ -n "$folders" ] || { echo "down: nothing to stop: there is no state folder" >&2; exit 0; }
failed=0
while IFS= read -r folder; do
    down --state "$folder" "$@" </dev/null || failed=$?
done <<FOLDERS
$folders
FOLDERS
exit "$failed"
