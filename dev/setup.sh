#!/usr/bin/env bash
# Make a virtual environment with exactly the pinned requirements and this package, editable.
# Does nothing when it is there and fits: usage dev/setup.sh FOLDER CONSTRAINTS
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1 constraints=$2
python=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }

if ! version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))' 2>/dev/null); then
    say "Python 3.11 or newer is needed; '$python' is ${version:-not there}. Choose one with PYTHON=…"
    exit 1
fi

stamp="$venv/.made-from"
wanted="$version $(cat "$constraints" pyproject.toml helmr_provider/__init__.py | sha256sum | cut -d ' ' -f 1)"
[ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ] && exit 0

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "Installing python3-venv, which this system's Python comes without."
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq && apt-get install -y -qq "python$version-venv" >/dev/null
    else
        say "'$python' has no venv module: install it first (Debian, Ubuntu: apt-get install python$version-venv)."
        exit 1
    fi
fi

# Another version of Python can't take over what is there.
[ -x "$venv/bin/python$version" ] || rm -rf "$venv"
say "Setting up $venv (Python $version): a minute the first time."
"$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
hashes=(); ! grep -q -- --hash= "$constraints" || hashes=(--require-hashes)

# uv, itself one of the pins, installs in seconds what takes pip a minute; pip remains for where uv can't reach what pip
# is configured for.
sed -n '/^uv==/,/[^\\]$/p' "$constraints" >"$venv/uv.txt"
"${pip[@]}" "${hashes[@]}" --requirement "$venv/uv.txt"
"$venv/bin/uv" pip install --quiet --compile-bytecode --python "$venv/bin/python" "${hashes[@]}" --requirement "$constraints" ||
    "${pip[@]}" "${hashes[@]}" --requirement "$constraints"
"${pip[@]}" --no-deps --no-build-isolation --editable .
printf '%s\n' "$wanted" >"$stamp"
