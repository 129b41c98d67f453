#!/usr/bin/env bash
# Install Redis and PostgreSQL, if they are missing.
set -euo pipefail

if ! { command -v redis-server && compgen -G '/usr/lib/postgresql/*/bin/initdb'; } >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server postgresql >/dev/null
    else
        echo "Redis and PostgreSQL are needed (Debian, Ubuntu: apt-get install redis-server postgresql)." >&2
        exit 1
    fi
fi
