"""Type checkers refuse wrong calls of the public interface, and nothing else in the same files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REJECTED = sorted(HERE.glob("rejected_*.py"))


def wrong_lines(path: Path) -> set[int]:
    lines = path.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}


def test_there_are_wrong_calls_to_refuse() -> None:
    assert sum(len(wrong_lines(path)) for path in REJECTED) >= 15


@pytest.mark.parametrize("path", REJECTED, ids=lambda path: path.stem)
def test_mypy_refuses_exactly_the_wrong_calls(path: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--no-error-summary", str(path)]
    said = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=110)
    refused = {int(n) for n in re.findall(rf"{re.escape(path.name)}:(\d+): error:", said.stdout)}
    assert refused == wrong_lines(path), said.stdout + said.stderr


@pytest.mark.parametrize("path", REJECTED, ids=lambda path: path.stem)
def test_pyright_refuses_exactly_the_wrong_calls(path: Path) -> None:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(path)]
    said = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=110)
    found = json.loads(said.stdout)["generalDiagnostics"]
    refused = {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}
    assert refused == wrong_lines(path), "\n".join(each["message"] for each in found)
