#!/usr/bin/env bash
# Make an environment with Celery beside Airflow, and install Redis and PostgreSQL. Usage: dev/celery.sh FOLDER-OF-VENV
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1

if ! { command -v redis-server && compgen -G '/usr/lib/postgresql/*/bin/initdb'; } >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server postgresql >/dev/null
    else
        echo "Redis and PostgreSQL are needed (Debian, Ubuntu: apt-get install redis-server postgresql)." >&2
        exit 1
    fi
fi
dev/setup.sh "$venv" constraints.txt
"$venv/bin/uv" pip install --quiet --compile-bytecode --python "$venv/bin/python" --requirement dev/requirements/celery.txt
