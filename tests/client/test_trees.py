"""One source, two clients: what is generated is fresh, and both have the same names and parameters."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import helmr_provider.client
from tests.client.trees import MODULES, PACKAGE, classes, public_members

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = PACKAGE.parents[1] / "dev" / "unasync.py"


def parameters(member: Any) -> list[tuple[str, Any, Any]]:
    if not inspect.isfunction(member):
        return []
    found = inspect.signature(member).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in found]


@pytest.mark.parametrize("module", MODULES)
def test_both_clients_have_the_same_public_names_and_parameters(module: str) -> None:
    asynchronous, blocking = classes("_async", module), classes("_sync", module)
    assert asynchronous.keys() == blocking.keys()
    assert asynchronous or module.startswith("_")
    for name, owner in asynchronous.items():
        here, there = public_members(owner), public_members(blocking[name])
        assert here.keys() == there.keys(), name
        for member in here:
            assert parameters(here[member]) == parameters(there[member]), f"{name}.{member}"


@pytest.mark.parametrize("module", MODULES)
def test_the_blocking_client_has_nothing_asynchronous_in_it(module: str) -> None:
    tree = ast.parse((PACKAGE / "_sync" / f"{module}.py").read_text())
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
        or (isinstance(node, ast.Name | ast.ClassDef) and str(getattr(node, "id", "")).startswith("Async"))
    ]
    assert not found


@pytest.mark.parametrize("module", MODULES)
def test_the_source_starts_no_tasks_because_there_is_nothing_like_them_on_the_blocking_side(module: str) -> None:
    tree = ast.parse((PACKAGE / "_async" / f"{module}.py").read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not used & {"gather", "create_task", "ensure_future", "TaskGroup", "run_in_executor", "to_thread"}


def test_the_blocking_client_is_what_the_script_makes() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_script_notices_a_stale_file(tmp_path: Path) -> None:
    client = tmp_path / "helmr_provider" / "client"
    for folder in ("_async", "_sync"):
        (client / folder).mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    script = tmp_path / "dev" / "unasync.py"
    script.write_text(SCRIPT.read_text())
    source = '"""Say."""\n\n\nasync def say(client: AsyncThing) -> None:\n    """Await ``AsyncThing.aclose``."""\n'
    (client / "_async" / "say.py").write_text(source + "    await client.aclose()\n")
    (client / "_sync" / "gone.py").write_text("")

    def run(*options: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    code, said = run("--check")
    assert (code, said.count("is not what")) == (1, 2)
    assert run() == (0, "")
    assert run("--check") == (0, "")
    assert not (client / "_sync" / "gone.py").exists()
    made = (client / "_sync" / "say.py").read_text()
    assert "def say(client: Thing) -> None:" in made
    assert "    client.close()\n" in made
    assert "Thing.close" in made
    assert made.startswith("# Made by dev/unasync.py")


HEAVY = ("httpx", "pydantic", "airflow", "tenacity")


@pytest.mark.parametrize(
    "statement",
    [
        "import helmr_provider.client",
        "import helmr_provider.client.aio",
        "from helmr_provider.client import Task, HelmrError, idempotency_key; Task('t'); idempotency_key('x')",
        "from helmr_provider.client import sessions, default_client",
        "import helmr_provider.client.errors, helmr_provider.client._config, helmr_provider.client.durations",
    ],
)
def test_naming_the_client_where_dags_are_parsed_loads_nothing_heavy(statement: str) -> None:
    code = f"import sys; {statement}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_using_the_client_never_loads_airflow() -> None:
    code = (
        "import sys; from helmr_provider.client import *; import helmr_provider.client as c;"
        "[getattr(c, name) for name in dir(c)]; c.HelmrClient(url='https://x.example').close();"
        "print('airflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_public_name_can_be_had_and_is_listed_for_type_checkers() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        alias.asname or alias.name
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert typed == set(helmr_provider.client._HOME_OF)
    for name in typed:
        # A union has no name.
        assert getattr(getattr(helmr_provider.client, name), "__name__", name) == name
    with pytest.raises(AttributeError, match="nonsense"):
        _ = helmr_provider.client.nonsense
