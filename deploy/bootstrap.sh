#!/bin/sh
# Make this machine ready, then run a command:  deploy/bootstrap.sh run|dev COMMAND [ARGUMENT...]
#   run   what `armadillo up` needs        dev   also what tests, lint and types need
# Work that is done is not repeated: a stamp in .venv names what it was made from.
set -eu
cd "$(dirname "$0")/.."
VENV=.venv
mode=${1:?usage: deploy/bootstrap.sh run|dev COMMAND [ARGUMENT...]}
shift

say() { printf 'bootstrap: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" -eq 0 ]; }

# step WHAT COMMAND...: one line before it, one with the seconds it took after; its output only if it fails.
step() {
    title=$1
    shift
    begun=$(date +%s)
    log=$(mktemp)
    say "$title ..."
    "$@" >"$log" 2>&1 &
    job=$!
    trap 'kill "$job" 2>/dev/null; rm -f "$log"; exit 130' INT TERM
    waited=0
    while kill -0 "$job" 2>/dev/null; do
        sleep 1
        waited=$((waited + 1))
        [ $((waited % 15)) -eq 0 ] && say "  still at it after $waited s: $(tail -n 1 "$log" | cut -c1-100)"
    done
    trap - INT TERM
    if wait "$job"; then
        say "  done in $(($(date +%s) - begun)) s"
        rm -f "$log"
        return 0
    fi
    tail -n 20 "$log" >&2
    rm -f "$log"
    return 1
}

apt_install() { # apt_install PACKAGE...
    if [ -z "${apt_fresh:-}" ]; then
        step "fetching the package lists" apt-get -q update || say "package lists are old: apt-get update failed"
        apt_fresh=yes
    fi
    step "installing $*" env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "$@"
}

# package:program pairs. A program may lie outside a user's PATH (sbin) or not in any (CNI plugins).
is_there() {
    case $1 in
        cni) [ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ] ;;
        *) have "$1" || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] ;;
    esac
}

system_packages() {
    missing=
    for pair in containerd:containerd runc:runc containernetworking-plugins:cni mosquitto:mosquitto \
        mosquitto-clients:mosquitto_pub busybox-static:busybox iproute2:ip iptables:iptables kubernetes-client:kubectl; do
        is_there "${pair#*:}" || missing="$missing ${pair%%:*}"
    done
    [ -n "$missing" ] || return 0
    if is_root && have apt-get; then
        # A service that the package starts by itself would only take ports and memory: ours are our own.
        # shellcheck disable=SC2086 # a list of words
        without_services apt_install $missing && return 0
        say "went on without:$missing"
    else
        say "not root (or no apt-get), so these stay missing:$missing"
    fi
    what_is_different
}

without_services() {
    policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] && { "$@"; return; }
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    status=0
    "$@" || status=$?
    rm -f "$policy"
    return "$status"
}

what_is_different() {
    case $missing in *containerd* | *runc* | *containernetworking* | *busybox* | *iptables*)
        say "  pods run as plain processes on this machine (process runtime), without images or own addresses" ;;
    esac
    case $missing in *mosquitto*) say "  the broker is the one inside edgecore; tests with mosquitto are skipped" ;; esac
    case $missing in *kubernetes-client*) say "  install kubectl yourself: the tour and the e2e tests need it" ;; esac
}

find_python() {
    for name in "${PYTHON:-}" python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$name" ] && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        "$name" -c 'import sys; print(sys.executable)' && return
    done
    fail "needs Python 3.11 or newer as python3 (or name it: make PYTHON=/path/to/python up)"
}

make_venv() {
    python=$(find_python)
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        is_root && have apt-get || fail "python3-venv is missing: ask an administrator to install it"
        apt_install "python$version-venv" || apt_install python3-venv || fail "python3-venv could not be installed"
    fi
    step "making $VENV with Python $version" "$python" -m venv --clear "$VENV" || fail "$VENV could not be made"
}

has_compiler() {
    have cc && "$VENV/bin/python" -c 'import pathlib, sys, sysconfig
sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())'
}

# What the environment was made from; a difference makes it again.
fingerprint() {
    {
        cat pyproject.toml deploy/bootstrap.sh
        [ ! -f setup.py ] || cat setup.py
        find synccore edgecore/eventbus -name '*.pyx' -exec cat {} +
        "$VENV/bin/python" -c 'import sys; print(sys.version)'
        pwd
    } | sha256sum | cut -d' ' -f1
}

install_package() {
    if ! has_compiler && is_root && have apt-get; then
        apt_install gcc libc6-dev python3-dev || say "no compiler could be installed"
    fi
    if has_compiler; then
        rm -f "$VENV/purepy"
        step "installing Armadillo and its dependencies (a minute or two)" \
            "$VENV/bin/python" -m pip install --no-input --disable-pip-version-check -e "$1" || fail "pip failed"
    else
        say "no C compiler or no Python.h: the sync codec runs as its Python twin (slower, same results)"
        step "installing the dependencies (a minute or two)" install_without_building || fail "pip failed"
        : >"$VENV/purepy"
    fi
}

install_without_building() {
    "$VENV/bin/python" - "$mode" >"$VENV/requirements.txt" <<'PYTHON' &&
import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extra = project["optional-dependencies"]["dev"] if sys.argv[1] == "dev" else []
print("\n".join(project["dependencies"] + extra))
PYTHON
        "$VENV/bin/python" -m pip install --no-input --disable-pip-version-check -r "$VENV/requirements.txt" &&
        "$VENV/bin/python" -c 'import pathlib, sysconfig
(pathlib.Path(sysconfig.get_path("purelib")) / "armadillo-tree.pth").write_text(str(pathlib.Path.cwd()) + "\n")'
}

case $mode in run) package=. ;; dev) package='.[dev]' ;; *) fail "unknown mode $mode: run or dev" ;; esac
system_packages
"$VENV/bin/python" -c 'import pip' 2>/dev/null || make_venv
stamp=$(fingerprint)
# The dev environment contains the other one.
if ! grep -qsx "$stamp" "$VENV/stamp-dev" && ! { [ "$mode" = run ] && grep -qsx "$stamp" "$VENV/stamp-run"; }; then
    install_package "$package"
    printf '%s\n' "$stamp" >"$VENV/stamp-$mode"
fi
[ ! -e "$VENV/purepy" ] || export SYNCCORE_PUREPY=1
[ $# -gt 0 ] || exit 0
PATH=$PWD/$VENV/bin:$PATH
export PATH
exec "$@"
