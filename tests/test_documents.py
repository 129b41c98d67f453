"""The documents are complete and correct: links, snippets, tables, quoted error texts, and words."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from dev.drawings import DRAWINGS
from dev.sphinx_extension import parameters
from helmr_provider.get_provider_info import get_provider_info
from helmr_provider.local import SCOPES

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


def test_the_dag_in_the_readme_is_that_of_the_tutorial_and_short() -> None:
    (snippet,) = snippets(ROOT / "README.md")
    assert snippet == snippets(ROOT / "docs/tutorial/first-dag.md")[0]
    assert len([line for line in snippet.splitlines() if line]) <= 15


def rows_of_the_tables() -> dict[str, type]:
    """Return the classes of docs/reference/operators.md, from the modules that it names."""
    rows = re.findall(
        r"^\| `(Helmr\w+)` \| `([\w.]+)`", (ROOT / "docs/reference/operators.md").read_text(), re.MULTILINE
    )
    return {name: getattr(importlib.import_module(module), name) for name, module in rows}


def test_the_tables_list_every_operator_and_sensor_with_its_module() -> None:
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
        for name, cls in inspect.getmembers(module)
        if isinstance(cls, type) and f"{cls.__module__}.".startswith(f"{module.__name__}.") and not name.startswith("_")
    }
    public = {name: cls for name, cls in public.items() if hasattr(cls, "execute")}
    assert len(public) > 20
    assert {name: cls for name, cls in listed.items() if name in public} == public


def reference_classes() -> set[str]:
    pages = "\n".join(path.read_text() for path in (ROOT / "docs/reference").rglob("*.md"))
    return set(re.findall(r"^\.\. autoclass:: helmr_provider\.[\w.]*?(\w+)$", pages, re.MULTILINE))


def public_classes(sections: tuple[str, ...]) -> dict[str, type]:
    info = get_provider_info()
    modules = [
        importlib.import_module(module)
        for section in sections
        for entry in info[section]
        for module in entry["python-modules"]
    ]
    return {
        name: cls
        for module in modules
        for name, cls in inspect.getmembers(module)
        if isinstance(cls, type)
        and cls.__module__.startswith("helmr_provider.")
        and not cls.__module__.startswith("helmr_provider.client.")
        and name.startswith("Helmr")
    }


def test_every_operator_sensor_and_trigger_is_in_the_reference() -> None:
    found = public_classes(("operators", "sensors"))
    triggers = public_classes(("triggers",))
    assert len(found) > 20
    bases = {"HelmrOperator", "HelmrWaitingOperator", "HelmrSensor", "HelmrTrigger", "HelmrEventTrigger", "HelmrHook"}
    assert {*found, *triggers} - bases - reference_classes() == set()


@pytest.mark.parametrize("name", sorted(public_classes(("operators", "sensors"))))
def test_every_parameter_has_a_description(name: str) -> None:
    cls = public_classes(("operators", "sensors"))[name]
    assert [each.name for each in parameters(cls) if not any(each.text)] == []


def test_every_metric_is_in_the_table() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "helmr_provider").rglob("*metrics*.py"))
    names = set(re.findall(r'"(helmr\.[a-z_.]+)"', source))
    assert len(names) >= 7
    assert names == set(re.findall(r"`(helmr\.[a-z_.]+)`", (ROOT / "docs/reference/metrics.md").read_text()))


def texts(folder: Path) -> str:
    """All texts of the code, those in several pieces joined."""
    nodes = (node for path in folder.rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_the_messages_that_troubleshooting_quotes_are_ours_or_marked_as_others() -> None:
    # Texts of Airflow, Python and the operating system.
    others = {
        "The conn_id … isn't defined",
        "The host or port to test differs from the stored connection",
        "no attribute 'helmr_session'",
        "address already in use",
        "reported that the task instance … finished with state success",
        "TI was not in a state where it could be marked as running",
    }
    quoted = set(re.findall(r"^### `(.+)`$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE))
    assert len(quoted) >= 20
    ours = texts(ROOT / "helmr_provider")
    pieces = {message: [piece.strip() for piece in re.split(r"…| \d{3}$", message)] for message in quoted - others}
    assert {message for message, parts in pieces.items() if any(part not in ours for part in parts)} == set()


AVOIDED = r"\b(whoever|somebody|meanwhile|goes on|go on|lets go|stands for|is about to|in vain|at once)\b"


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name != "CODE_OF_CONDUCT.md"], ids=named)
def test_documents_avoid_figurative_words(path: Path) -> None:
    assert re.findall(AVOIDED, path.read_text(), re.IGNORECASE) == []


@pytest.mark.parametrize("name", sorted(rows_of_the_tables()))
def test_every_operator_links_its_guide(name: str) -> None:
    cls = rows_of_the_tables()[name]
    (guide,) = re.findall(r"\.\. seealso:: Guide: :doc:`(/how-to/[\w-]+)`", cls.__doc__ or "")
    assert (ROOT / f"docs{guide}.md").exists()


SCOPE = re.compile(r"`{1,2}([a-z-]+:[a-z-]+)`{1,2}")


@pytest.mark.parametrize("name", sorted(rows_of_the_tables()))
def test_every_operator_and_sensor_names_its_scopes(name: str) -> None:
    assert SCOPE.search(rows_of_the_tables()[name].__doc__ or "")


def test_scopes_that_texts_name_exist() -> None:
    areas = {scope.split(":")[0] for scope in SCOPES} | {"sessions", "schedules", "workspaces"}
    paths = [*DOCUMENTS, *(ROOT / "helmr_provider").rglob("*.py")]
    named_in = {scope: path for path in paths for scope in SCOPE.findall(path.read_text())}
    assert {
        scope: path for scope, path in named_in.items() if scope.split(":")[0] in areas and scope not in SCOPES
    } == {}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_are_fresh(name: str) -> None:
    assert (ROOT / "docs/images" / name).read_text() == DRAWINGS[name](), "run make generate"


@pytest.mark.parametrize("page", ["docs/how-to/client.md", "helmr_provider/client/README.md"])
def test_the_requirements_of_the_client_alone_are_those_of_the_package(page: str) -> None:
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    # Those of the provider: Airflow, and times in a schedule's time zone.
    provider = ("apache-airflow", "pendulum")
    (line,) = re.findall(r"^\$ pip install ('\w.*)$", (ROOT / page).read_text(), re.MULTILINE)
    assert shlex.split(line) == [each for each in needed if not each.startswith(provider)]
