"""Schedules as text: YAML or JSON, with nothing lost on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helmr_provider.schedules._check import DeclarationError
from helmr_provider.schedules._read import read_text

ITEMS: list[dict[str, Any]] = [{"deduplication_key": "k", "task": "t", "cron": "0 6 * * *", "active": True}]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ITEMS),
        json.dumps({"schedules": ITEMS}),
        "- deduplication_key: k\n  task: t\n  cron: 0 6 * * *\n  active: yes\n",
        "schedules:\n- {deduplication_key: k, task: t, cron: '0 6 * * *', active: true}\n",
    ],
)
def test_yaml_and_json_say_the_same(text: str) -> None:
    assert read_text(text, source="s.yaml") == ITEMS


def test_what_is_there_twice_is_not_lost_but_refused() -> None:
    with pytest.raises(DeclarationError, match=r"s\.yaml: member 'cron' is there twice.*line 2"):
        read_text("\n- {deduplication_key: k, cron: 0 6 * * *, task: t, cron: 0 7 * * *}", source="s.yaml")


def test_a_cron_in_the_form_of_an_alias_is_explained() -> None:
    with pytest.raises(DeclarationError, match=r"s\.yaml: .*must be quoted"):
        read_text("- cron: * * * * *", source="s.yaml")


@pytest.mark.parametrize("text", ["- [", "a: b: c", "!!python/object/apply:os.system ['true']"])
def test_what_is_not_yaml_is_one_line_with_its_place(text: str) -> None:
    with pytest.raises(DeclarationError) as refusal:
        read_text(text, source="s.yaml")
    [problem] = refusal.value.problems
    assert problem.startswith("s.yaml: ")
    assert "\n" not in problem


@pytest.mark.parametrize("text", ["", "  \n", "schedules:\n"])
def test_an_empty_text_declares_nothing_that_could_be_pruned_for(text: str) -> None:
    assert read_text(text, source="s.yaml") is None
