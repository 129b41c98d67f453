"""Every example of the client runs against the local control plane, and prints what it says that it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helmr_provider.local import LocalControlPlane

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


def printed(source: str) -> list[str]:
    return re.findall(r"# -> (.*)$", source, re.MULTILINE)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(path: Path, control_plane: LocalControlPlane) -> None:
    environment = os.environ | control_plane.env
    done = subprocess.run(
        [sys.executable, "-W", "error", path], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = printed(path.read_text())
    assert expected
    assert done.stdout.splitlines() == expected


def test_every_namespace_has_an_example_and_the_list_of_them_is_whole() -> None:
    source = "\n".join(path.read_text() for path in EXAMPLES)
    namespaces = (
        "sessions runs runs.events runs.logs tokens auth workspaces schedules tasks sandboxes deployments secrets"
    )
    for namespace in namespaces.split():
        assert re.search(rf"\b{re.escape(namespace)}\.\w+\(", source), namespace
    listed = re.findall(r"\]\((\w+\.py)\)", (FOLDER / "README.md").read_text())
    assert sorted(listed) == [path.name for path in EXAMPLES]
