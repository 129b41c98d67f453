"""The kill matrix has no hole, its documentation is current, and its cells in `make test` exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.stack import ROOT
from tests.reliability.kill_matrix import (
    MOMENT_REASONS,
    PASSED,
    REPRESENTATIVE,
    ROW_REASONS,
    TESTED,
    all_cells,
    content,
    table,
    tried_moments,
)


def test_each_cell_is_tried_or_has_a_reason() -> None:
    for cell in all_cells():
        found = content(cell)
        assert callable(found) or found.endswith(".")


def test_each_row_is_either_tried_or_explained() -> None:
    assert not TESTED.keys() & ROW_REASONS.keys()
    assert TESTED.keys() >= PASSED
    rows = {cell[:2] for cell in all_cells()}
    assert rows == TESTED.keys() | ROW_REASONS.keys()
    assert {component for component, _ in MOMENT_REASONS} <= {component for component, _ in TESTED}


def test_each_fault_belongs_to_one_row() -> None:
    assert len(set(TESTED.values())) == len(TESTED)
    assert all(tried_moments(row) for row in TESTED)


@pytest.mark.parametrize("cell", REPRESENTATIVE, ids=" - ".join)
def test_a_cell_of_make_test_is_tried_and_its_test_exists(cell: tuple[str, str, str, str]) -> None:
    assert cell in all_cells()
    path, name = REPRESENTATIVE[cell].split("::")
    text = Path(ROOT, path).read_text()
    assert f"def {name}(" in text
    assert "pytest.mark.slow" not in text


def test_at_least_eight_cells_of_every_kind_are_part_of_make_test() -> None:
    assert len(REPRESENTATIVE) >= 8
    assert {kind for *_, kind in REPRESENTATIVE} == {"session", "command", "approval"}


def test_the_documentation_shows_the_matrix() -> None:
    assert table() in Path(ROOT, "docs/explanation/reliability.md").read_text()
