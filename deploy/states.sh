#!/bin/sh
# The state folders that this checkout has used. Sourced by down.sh and clean.sh; `deploy/states.sh note ARGUMENT...`
# remembers the folder that `make up ARGS="--state ..."` is about to use.
STATES=.states # one absolute path a line; .armadillo, the default, is not in it

said_state() { # said_state ARGUMENT...: print the folder behind --state, or nothing
    state=
    while [ $# -gt 0 ]; do
        case $1 in
            --state) state=${2:-} ;;
            --state=*) state=${1#--state=} ;;
        esac
        shift
    done
    printf '%s' "$state"
}

known_states() { # those that still exist
    { printf '%s\n' .armadillo; [ ! -f "$STATES" ] || cat "$STATES"; } | while IFS= read -r folder; do
        [ ! -d "$folder" ] || printf '%s\n' "$folder"
    done
}

note_state() {
    state=$(said_state "$@")
    [ -n "$state" ] || return 0
    case $state in /*) ;; *) state=$PWD/$state ;; esac
    grep -qsxF "$state" "$STATES" || printf '%s\n' "$state" >>"$STATES"
}

if [ "${0##*/}" = states.sh ] && [ "${1:-}" = note ]; then
    set -eu
    cd "$(dirname "$0")/.."
    shift
    note_state "$@"
fi
