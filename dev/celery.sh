#!/usr/bin/env bash
# Make an environment with Celery beside Airflow, Redis and PostgreSQL. Usage: dev/celery.sh FOLDER-OF-VENV
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1

dev/services.sh
dev/setup.sh "$venv" constraints.txt
"$venv/bin/uv" pip install --quiet --compile-bytecode --python "$venv/bin/python" --requirement dev/requirements/celery.txt
