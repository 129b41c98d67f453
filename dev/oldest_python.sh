#!/usr/bin/env bash
# The oldest supported Python that package tools bring: Debian 12's own, 3.11.2.
set -euo pipefail

python=/usr/bin/python3.11
if [ ! -x "$python" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq python3.11 python3.11-venv >/dev/null
fi
[ -x "$python" ] || { echo "$python is not there: Debian 12 has it as the package python3.11." >&2; exit 1; }
