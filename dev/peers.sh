#!/usr/bin/env bash
# Make an environment with this package and the providers that it is compared with. Usage: dev/peers.sh UV FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."

uv=$1 venv=$2

[ -x "$venv/bin/python" ] || "$uv" venv --quiet --python "$(dirname "$uv")/python" "$venv"
# Not editable: all three are read from bytecode, as they are wherever they are installed.
"$uv" pip install --quiet --compile-bytecode --python "$venv/bin/python" --reinstall-package airflow-provider-helmr \
    --requirement dev/requirements/airflow-3.3.in --requirement dev/requirements/peers.in .
