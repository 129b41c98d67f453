#!/usr/bin/env bash
# Build sdist and wheel, install the wheel into an empty environment, and look whether Airflow finds the provider.
# The environment is kept for the next time: its requirements are the same. Usage: dev/try_wheel.sh FOLDER-OF-VENV
set -euo pipefail
cd "$(dirname "$0")/.."

dev=$1
empty=.venv-wheel

rm -rf dist
said=$("$dev/bin/python" -m build --no-isolation --outdir dist . 2>&1) || { echo "$said" >&2; exit 1; }
wheel=$(ls dist/*.whl)

# Not the development environment: only what the wheel itself asks for, from the versions that we pin.
[ -x "$empty/bin/python" ] || "$dev/bin/python" -m venv "$empty"
"$dev/bin/uv" pip install --quiet --python "$empty/bin/python" --constraint constraints.txt --reinstall-package airflow-provider-helmr "$wheel[local]"

home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
found=$(cd "$home" && AIRFLOW_HOME=$home "$OLDPWD/$empty/bin/airflow" providers list --output plain 2>/dev/null)
grep -q '^airflow-provider-helmr ' <<<"$found" || { echo "airflow providers list does not show the provider:"; echo "$found"; exit 1; } >&2
(cd "$home" && "$OLDPWD/$empty/bin/helmr-local" --help >/dev/null)
echo "dist: $(ls dist | paste -sd ' '); the wheel works in an empty environment"
