#!/bin/sh
# Build the compiled extensions with AddressSanitizer and UndefinedBehaviorSanitizer, beside the normal ones, and
# run the tests of the compiled twins on them:  deploy/asan.sh [PYTEST_ARGUMENT...]
# A read or write past a buffer ends the run with a report that names the line of the C, and so of the .pyx.
set -eu
cd "$(dirname "$0")/.."
BUILD=$PWD/build/asan
FLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1 -g"

fail() { printf 'asan: %s\n' "$*" >&2; exit 1; }

preload=
for library in libasan.so libubsan.so libstdc++.so; do # the last: C++ exceptions of grpc are intercepted too
    path=$(gcc -print-file-name="$library" 2>/dev/null) || fail "gcc is missing"
    case $path in /*) preload="$preload $path" ;; *) fail "gcc has no $library" ;; esac
done

# A copy, so that the compiled modules of the tree stay as they are and cannot be taken by mistake.
rm -rf "$BUILD"
mkdir -p "$BUILD"
tar -cf - --exclude=./build --exclude=./dist --exclude='./.[!.]*' --exclude='*.egg-info' --exclude='*.so' \
    --exclude='synccore/*.c' --exclude='edgecore/eventbus/*.c' --exclude=__pycache__ . | tar -xf - -C "$BUILD"
cd "$BUILD"
# Last on the command line, or an extension's own -O3 would win.
printf '#!/bin/sh\nexec gcc "$@" %s\n' "$FLAGS" >cc
chmod +x cc
CC="$BUILD/cc" python setup.py -q build_ext --inplace || fail "the extensions do not build"

# PYTHONMALLOC: every Python object is an allocation of its own, so an overrun of one is seen. Python frees little
# when it ends, so leaks would say nothing.
export PYTHONPATH="$BUILD" PYTHONMALLOC=malloc
export ASAN_OPTIONS="detect_leaks=0:halt_on_error=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
unset SYNCCORE_PUREPY
LD_PRELOAD="$preload" python - <<'PYTHON'
import importlib, pathlib, sys
here = pathlib.Path.cwd()
for source in sorted([*here.glob("synccore/**/*.pyx"), *here.glob("edgecore/eventbus/*.pyx")]):
    module = importlib.import_module(".".join(source.relative_to(here).with_suffix("").parts))
    built = pathlib.Path(module.__file__).resolve()
    if here not in built.parents or b"__asan_init" not in built.read_bytes():
        sys.exit(f"asan: {built} is not the build under test")
    print(f"asan: {source.relative_to(here)} under test", flush=True)
PYTHON
# A report must get past pytest's capture, and a signal is the sanitizer's to explain.
tests() {
    LD_PRELOAD="$preload" python -m pytest -q -p no:faulthandler -p no:cacheprovider --capture=sys \
        --hypothesis-profile=asan -o timeout=60 "$@"
}
tests tests/synccore "$@"
elsewhere=$(grep -rl --include='test_*.py' 'mark\.compiled' tests | grep -v '^tests/synccore/' || true)
# shellcheck disable=SC2086 # a list of files
[ -z "$elsewhere" ] || tests -m compiled $elsewhere
