"""What the documents promise: links that lead somewhere, and Python that is right."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from helmr_provider.get_provider_info import get_provider_info

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def snippets(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_documents_with_snippets() -> None:
    assert sum(len(snippets(path)) for path in DOCUMENTS) >= 3


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_to_files_and_headings_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text()):
        file, _, heading = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in slugs, target


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_what_snippets_import_from_us_exists(path: Path) -> None:
    for snippet in snippets(path):
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helmr_provider"):
                module = importlib.import_module(str(node.module))
                assert [a.name for a in node.names if not hasattr(module, a.name)] == []


def test_the_dag_in_the_readme_builds() -> None:
    (snippet,) = snippets(ROOT / "README.md")
    namespace: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), namespace)
    from airflow.providers.common.compat.sdk import DAG

    dags = [value for value in namespace.values() if isinstance(value, DAG)]
    built = dags or [namespace["release"]()]  # type: ignore[operator]
    assert {"ask", "decision", "summary"} <= set(built[0].task_ids)
    assert len(snippet.splitlines()) <= 20


def test_every_operator_and_sensor_stands_in_the_tables_and_is_where_they_say() -> None:
    rows = re.findall(
        r"^\| `(Helmr\w+)` \| `([\w.]+)`", (ROOT / "docs/reference/operators.md").read_text(), re.MULTILINE
    )
    listed = {name: getattr(importlib.import_module(module), name) for name, module in rows}
    info = get_provider_info()
    modules = [
        importlib.import_module(module)
        for section in ("operators", "sensors")
        for entry in info[section]
        for module in entry["python-modules"]
    ]
    public = {
        name: cls
        for module in modules
        for name, cls in vars(module).items()
        if isinstance(cls, type) and f"{cls.__module__}.".startswith(f"{module.__name__}.") and not name.startswith("_")
    }
    public = {name: cls for name, cls in public.items() if hasattr(cls, "execute")}
    assert len(public) > 20
    assert {name: cls for name, cls in listed.items() if name in public} == public
