"""Every Python snippet of the documents runs: those of a page in order, in one namespace and one DAG."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.sdk import DAG

if TYPE_CHECKING:
    from helmr_provider.local import LocalControlPlane

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if FENCE.search(path.read_text()))


def snippets(page: Path) -> list[str]:
    return FENCE.findall(page.read_text())


def saved_files(page: Path) -> dict[str, str]:
    """Return the files that a page asks its reader to save."""
    return dict(
        re.findall(r"^Save this file as `([^`]+)`:\n\n```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    )


def is_test(snippet: str) -> bool:
    return re.search(r"^def test_", snippet, re.MULTILINE) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_snippets_of_a_page_run(
    page: Path,
    control_plane: LocalControlPlane,
    helmr_connection: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in control_plane.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    module = ModuleType("snippets_of_a_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with DAG("snippets", schedule=None):
        for snippet in snippets(page):
            if not is_test(snippet):
                exec(compile(snippet, str(page), "exec", dont_inherit=True), vars(module))


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(map(is_test, snippets(page)))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
@pytest.mark.timeout(600)
def test_the_tests_of_a_page_pass(page: Path, tmp_path: Path) -> None:
    for other in page.parent.glob("*.md"):
        for name, content in saved_files(other).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
    for number, snippet in enumerate(snippets(page)):
        if is_test(snippet) and snippet not in saved_files(page).values():
            (tmp_path / f"test_snippet_{number}.py").write_text(snippet)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path / "airflow")}
    commands = [["pytest", "-q", "-n", "0", str(tmp_path)]]
    if (tmp_path / "airflow").exists():
        # As the tutorial says: Airflow runs only DAGs that are in its database.
        commands = [["airflow", "db", "migrate"], ["airflow", "dags", "reserialize"], *commands]
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=190,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
