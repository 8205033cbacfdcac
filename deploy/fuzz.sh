#!/bin/sh
# Fuzz every decoder:  deploy/fuzz.sh [--seconds N] [--keep] [TARGET...]   (tests/fuzz/__main__.py)
# atheris is not part of the dev environment: it is large, and has wheels for some versions of Python only.
set -eu
cd "$(dirname "$0")/.."
if ! python -c 'import atheris' 2>/dev/null; then
    wanted=$(python -c 'import tomllib
extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]
print("\n".join(extras["fuzz"]))')
    echo "fuzz: installing $wanted" >&2
    python -m pip install -q --no-input --disable-pip-version-check "$wanted" ||
        { echo "fuzz: $wanted cannot be installed for $(python -V)" >&2; exit 1; }
fi
exec python -m tests.fuzz "$@"
