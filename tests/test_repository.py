"""Rules that the whole repository keeps, beyond what the linters check."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def tracked(*patterns: str) -> list[Path]:
    # Also what is not committed yet, but nothing that is ignored; the sdist has no git and is not developed in.
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / line for line in sorted(set(listed.splitlines())) if (ROOT / line).is_file()]


def matches(pattern: str) -> list[str]:
    found = []
    for path in tracked():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if re.search(pattern, line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    return found


def test_there_are_files_to_check() -> None:
    assert len(tracked()) > 50


def test_no_file_names_the_host_of_a_package_index() -> None:
    hosts = ("pypi" + r"\.org", "pythonhosted" + r"\.org", "npmjs" + r"\.(org|com)", "index" + "-url")
    assert matches("|".join(hosts)) == []


def test_no_file_names_a_path_of_a_developer_s_machine() -> None:
    folders = ("root", "home/[a-z]+", "Users/[A-Za-z]+", re.escape(ROOT.parent.as_posix().lstrip("/")))
    assert matches(r"(?<![\w.}])/(" + "|".join(folders) + r")/\w") == []


def test_nothing_is_read_from_beside_the_repository() -> None:
    assert matches(r"\.\./" + "shared") == []


def test_references_to_the_contract_are_paths_in_the_repository() -> None:
    named = {found for line in matches(r"contract/\w+\.\w+") for found in re.findall(r"contract/\w+\.\w+", line)}
    assert named
    assert {path for path in named if not (ROOT / path).is_file()} == set()
    # In prose of the contract itself and beside a list of its files, the names alone are enough.
    bare = matches(r"(?<![\w/`])(behaviour|capacity|surprises|surface)\.md")
    assert [line for line in bare if not line.startswith("contract/")] == []


def test_paths_named_in_texts_exist() -> None:
    """Paths in documents, docstrings and comments; those below `helmr_provider/` may be named without it."""
    texts = tracked("*.md", "Makefile", "dev", "benchmarks", "helmr_provider")
    parts = {path.relative_to(ROOT).parts[0] for path in tracked("*/*")}
    parts |= {path.relative_to(ROOT / "helmr_provider").parts[0] for path in tracked("helmr_provider/*/*.py")}
    named = re.compile(
        rf"(?<![\w./<$~{{}}-])((?:{'|'.join(sorted(parts))})/(?:[\w.-]+/)*(?:[\w-]+\.[a-z]{{2,4}}\b|(?=[`\s])))"
    )
    found: dict[str, list[str]] = {}
    for text in texts:
        bases = (ROOT, ROOT / "helmr_provider", text.parent)
        for path in named.findall(text.read_text(encoding="utf-8", errors="replace")):
            if not any((base / path).exists() for base in bases):
                found.setdefault(path, []).append(str(text.relative_to(ROOT)))
    assert found == {}


def test_modules_and_names_in_documents_exist() -> None:
    for text in tracked("*.md"):
        for name in re.findall(r"\bhelmr_provider(?:\.\w+)+", text.read_text()):
            assert resolve_name(name.replace(".py", "")) is not None, f"{text.relative_to(ROOT)}: {name}"


def test_make_targets_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [(path.relative_to(ROOT), path.read_text()) for path in tracked("*.md", "docs/*.md")]
    named = {(str(path), target) for path, text in texts for target in re.findall(r"[`$] ?make ([a-z0-9.-]+)", text)}
    assert len(named) > 10
    assert {each for each in named if each[1] not in targets} == set()


@pytest.mark.parametrize("path", tracked("*.py"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_under_500_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 500


def test_every_module_is_mirrored_by_tests_of_its_part() -> None:
    parts = {path.relative_to(ROOT / "helmr_provider").parts[0] for path in tracked("helmr_provider/*/*.py")}
    tested = {part: list((ROOT / "tests" / part.lstrip("_")).glob("**/test_*.py")) for part in parts}
    assert {part for part, modules in tested.items() if not modules} == set()


def imported_names(path: Path) -> set[str]:
    """The absolute names of what a module imports, and of the modules that it imports from."""
    package = path.relative_to(ROOT).parent.parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*base, node.module) if node.module else base)
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def test_no_module_imports_a_test_module() -> None:
    """What tests share is in helper modules, so that a change of one test cannot break another."""
    importers = tracked("tests/*.py")
    tests = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in importers if path.name.startswith("test_")
    }
    assert len(tests) > 100
    found = {str(path.relative_to(ROOT)): sorted(imported_names(path) & tests) for path in importers}
    assert {path: modules for path, modules in found.items() if modules} == {}


def direct_requirements(*without: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    groups = [project["dependencies"], *(extras[extra] for extra in extras.keys() - set(without))]
    return [Requirement(text) for group in groups for text in group]


@pytest.mark.parametrize(
    ("constraints", "source", "without"),
    [
        # common-ai needs Airflow 3; airflow-3.3.in requests it.
        ("constraints.txt", "airflow-3.3.in", ["common-ai"]),
        # The site is built with the newest Airflow only.
        ("constraints-airflow-2.11.txt", "airflow-2.11.in", ["common-ai", "docs"]),
    ],
)
def test_the_pinned_versions_fit_what_the_project_asks_for(constraints: str, source: str, without: list[str]) -> None:
    pinned: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", (ROOT / constraints).read_text(), re.MULTILINE):
        pinned.setdefault(canonicalize_name(name), set()).add(version)
    lines = (ROOT / "dev/requirements" / source).read_text().splitlines()
    wanted = direct_requirements(*without) + [Requirement(line) for line in lines if line and not line.startswith("#")]
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        if name == "airflow-provider-helmr":
            continue
        assert name in pinned, f"run make constraints: {requirement} is not pinned in {constraints}"
        assert all(requirement.specifier.contains(v) for v in pinned[name]), f"{requirement}: pinned {pinned[name]}"


@pytest.mark.parametrize(
    ("hashed", "plain"),
    [("constraints.txt", "airflow-3.3.txt"), ("constraints-airflow-2.11.txt", "airflow-2.11.txt")],
)
def test_the_constraints_for_users_are_the_pins_without_hashes(hashed: str, plain: str) -> None:
    pins = [line.removesuffix(" \\") for line in (ROOT / hashed).read_text().splitlines() if "==" in line]
    assert (ROOT / "constraints" / plain).read_text().splitlines() == pins, "run make constraints-plain"


def test_there_are_constraints_for_each_supported_airflow() -> None:
    sources = {path.stem for path in tracked("dev/requirements/airflow-*.in")}
    assert {path.stem for path in tracked("constraints/*.txt")} == sources
    assert all("--hash" not in path.read_text() for path in tracked("constraints/*.txt"))


def test_every_pin_has_a_hash() -> None:
    for constraints in ("constraints.txt", "constraints-airflow-2.11.txt"):
        blocks = re.split(r"\n(?=\S)", (ROOT / constraints).read_text())
        assert [b for b in blocks if "==" in b and "--hash=sha256:" not in b] == []


def test_every_make_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z0-9.-]+):", makefile, re.MULTILINE))
    assert targets == set(re.findall(r"^([a-z0-9.-]+):.*## \S", makefile, re.MULTILINE))


def test_no_variable_that_a_make_target_asks_for_is_set_for_all_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    asked_for = set(re.findall(r"\$\((?:if|or) \$\((\w+)\)", makefile))
    assert asked_for
    assert asked_for & set(re.findall(r"^(\w+) *[?:+]?=", makefile, re.MULTILINE)) == set()
