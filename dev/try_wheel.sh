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
offered=$(cd "$home" && AIRFLOW_HOME=$home "$OLDPWD/$empty/bin/python" -W ignore - 2>/dev/null <<'PROGRAM'
from importlib import import_module
from airflow.providers_manager import ProvidersManager

info = ProvidersManager().providers["airflow-provider-helmr"].data
sections = ("operators", "sensors", "triggers", "hooks")
modules = [name for section in sections for group in info[section] for name in group["python-modules"]]
classes = [*info["extra-links"], *info["notifications"], *(each["class-name"] for each in info["task-decorators"])]
for name in modules:
    import_module(name)
for name in classes:
    getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
print(f"{len(modules)} modules and {len(classes)} further classes")
PROGRAM
) || { echo "not all that the provider names can be imported from the wheel"; exit 1; } >&2

# The client alone, as its guide says: without Airflow.
alone=.venv-client
[ -x "$alone/bin/python" ] || "$dev/bin/python" -m venv "$alone"
needed=$(sed -n "s/^\$ pip install '\([a-z].*\)'$/\1/p" docs/how-to/client.md)
eval "needed=('$needed')"
"$dev/bin/uv" pip install --quiet --python "$alone/bin/python" --no-deps --reinstall-package airflow-provider-helmr "$wheel"
"$dev/bin/uv" pip install --quiet --python "$alone/bin/python" --constraint constraints.txt "${needed[@]}"
(cd "$home" && "$OLDPWD/$alone/bin/python" - <<'PROGRAM'
import asyncio
import sys

import helmr_provider.client as client

for name in client.__all__:
    getattr(client, name)
with client.HelmrClient(url="https://helmr.example.com", api_key="hlmr_sk_none"):
    pass
asyncio.run(client.AsyncHelmrClient(url="https://helmr.example.com", api_key="hlmr_sk_none").aclose())
sys.exit("airflow" in sys.modules)
PROGRAM
) || { echo "the client alone does not work with the requirements that docs/how-to/client.md names"; exit 1; } >&2

echo "dist: $(ls dist | paste -sd ' '); in an empty environment Airflow shows the provider with $(tail -n 1 <<<"$offered")"
