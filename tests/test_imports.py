"""Parsing a DAG file stays cheap: what is heavy is imported when a task runs, not before."""

from __future__ import annotations

import subprocess
import sys

import pytest

from helmr_provider.get_provider_info import get_provider_info

# What every DAG file imports anyway; only what our modules add to it counts.
_AIRFLOW = """
import airflow.providers.common.compat.sdk as compat
from airflow.triggers.base import BaseTrigger
compat.BaseOperator, compat.BaseSensorOperator, compat.BaseHook, compat.BaseOperatorLink, compat.Connection
compat.XCom, compat.PokeReturnValue, compat.AirflowException, compat.mask_secret, compat.conf
compat.DecoratedOperator, compat.context_merge, compat.determine_kwargs, compat.task_decorator_factory
import airflow.providers.common.compat.connection
"""

_HEAVY = (
    "httpx",
    "httpcore",
    "pydantic",
    "starlette",
    "uvicorn",
    "sqlalchemy",
    "wtforms",
    "flask_appbuilder",
    "tenacity",
)


def named_in(section: str) -> list[str]:
    if section == "task-decorators":
        return [entry["class-name"].rpartition(".")[0] for entry in get_provider_info()[section]]
    return [module for entry in get_provider_info()[section] for module in entry["python-modules"]]


@pytest.mark.parametrize("section", ["operators", "sensors", "triggers", "hooks", "task-decorators"])
def test_importing_what_dag_files_name_adds_nothing_heavy(section: str) -> None:
    named = named_in(section)
    modules = ", ".join([*named, "helmr_provider.links", "helmr_provider.get_provider_info"])
    program = f"""
import sys
{_AIRFLOW}
before = set(sys.modules)
import {modules}
added = set(sys.modules) - before
heavy = {_HEAVY!r}
print(sorted(name for name in added if name.split(".")[0] in heavy or name.startswith((
    "helmr_provider.client.models", "helmr_provider.client._async", "helmr_provider.client._sync",
    "helmr_provider.client._wire", "helmr_provider.client._http", "helmr_provider.local"))))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_provider_info_is_read_without_importing_airflow() -> None:
    program = """
import sys
from helmr_provider.get_provider_info import get_provider_info
get_provider_info()
print("airflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False"
