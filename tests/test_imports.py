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
for name in {named!r}:
    for member in getattr(sys.modules[name], "__all__", ()):  # as far as a package loads its members at first use
        getattr(sys.modules[name], member)
added = set(sys.modules) - before
heavy = {_HEAVY!r}
print(sorted(name for name in added if name.split(".")[0] in heavy or name.startswith((
    "helmr_provider.client.models", "helmr_provider.client._async", "helmr_provider.client._sync",
    "helmr_provider.client._wire", "helmr_provider.client._http", "helmr_provider.local"))))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


# Each module costs every parsing of every DAG file. One more needs a reason: does the class body or a default use it?
_START_AND_APPROVAL = """
_approvals _approvals.question
_common _common.cancel_reasons _common.cleanup _common.deferrable _common.errors _common.openlineage _common.results
_common.task_state _common.template_fields _common.validation _common.versions
_sessions _sessions.epoch _sessions.identity _sessions.session_spec
client client._secrets client.durations client.errors
hooks links
operators operators._base operators._lazy operators.approval operators.session operators.session.start
"""


def test_a_dag_file_imports_what_its_operators_are_made_of_and_not_what_they_do() -> None:
    program = f"""
import sys
{_AIRFLOW}
before = set(sys.modules)
from helmr_provider.operators.session import HelmrStartSessionOperator
from helmr_provider.operators.approval import HelmrApprovalOperator
added = set(sys.modules) - before
print(*sorted(name.removeprefix("helmr_provider.") for name in added if name.startswith("helmr_provider.")))
print(*sorted({{name.split(".")[0] for name in added}} - sys.stdlib_module_names - {{"airflow"}}))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    *_, ours, packages = done.stdout.splitlines()
    assert ours.split() == sorted(_START_AND_APPROVAL.split())
    assert packages in {"", "helmr_provider"}


def test_the_provider_info_is_read_without_importing_airflow() -> None:
    program = """
import sys
from helmr_provider.get_provider_info import get_provider_info
get_provider_info()
print("airflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False"
