"""Questions and answers: what may be asked, and what counts as an answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr_provider._approvals.question import AnswerError, Question

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
QUESTION_MEMBERS = Question(subject="Publish?", options=("Approve", "Reject"), rejections=("Reject",))


def chosen(question: Question, data: Any) -> list[str]:
    return list(question.read(data, noticed=NOON).chosen)


@pytest.mark.parametrize(
    "data",
    [
        "Approve",
        " approve ",
        ["Approve"],
        True,
        {"chosen": "Approve"},
        {"chosen": ["Approve"]},
        {"chosen": True},
        {"approved": True},
        {"chosen": ["Approve", "approve"]},
    ],
    ids=repr,
)
def test_yes_may_be_said_in_many_ways(data: Any) -> None:
    assert QUESTION_MEMBERS.read(data, noticed=NOON).data == {
        "chosen": ["Approve"],
        "params": {},
        "by": None,
        "via": "helmr",
        "at": NOON.isoformat(),
    }


@pytest.mark.parametrize("data", ["Reject", False, {"approved": False}, {"chosen": ["reject"]}], ids=repr)
def test_so_may_no(data: Any) -> None:
    assert chosen(QUESTION_MEMBERS, data) == ["Reject"]


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        "",
        "Perhaps",
        1,
        {"chosen": None},
        {"chosen": []},
        {"chosen": "Perhaps"},
        {"chosen": ["Approve", "Reject"]},
        {"approved": "yes"},
        {"approved": 1},
        {"chosen": "Approve", "params": ["no", "object"]},
        {"chosen": "Approve", "by": 7},
        {"note": "no decision at all"},
    ],
    ids=repr,
)
def test_anything_else_is_no_answer(data: Any) -> None:
    with pytest.raises(AnswerError):
        QUESTION_MEMBERS.read(data, noticed=NOON)


def test_true_means_nothing_where_more_than_one_option_is_a_yes() -> None:
    question = Question(subject="Which?", options=("A", "B", "Neither"), rejections=("Neither",))
    with pytest.raises(AnswerError):
        chosen(question, True)
    assert chosen(question, False) == ["Neither"]


def test_the_exact_option_is_meant_where_case_makes_the_difference() -> None:
    question = Question(subject="Which?", options=("a", "A"))
    assert chosen(question, "A") == ["A"]
    with pytest.raises(AnswerError):
        chosen(question, " A ")


def test_several_options_come_in_the_order_in_which_they_were_offered() -> None:
    question = Question(subject="Which?", options=("one", "two", "three"), multiple=True)
    assert chosen(question, ["three", "one"]) == ["one", "three"]


def test_what_else_was_said_and_what_stood_in_the_form_are_params() -> None:
    question = Question(
        subject="Publish?",
        options=("Approve", "Reject"),
        rejections=("Reject",),
        params={"channel": {"value": "stable"}, "notes": {"value": None}},
    )
    answer = question.read({"approved": True, "by": "ada", "comment": "Go.", "params": {"notes": "x"}}, noticed=NOON)
    assert answer.params == {"channel": "stable", "comment": "Go.", "notes": "x"}
    assert answer.by == "ada"


def test_an_answer_that_a_task_has_written_is_read_as_it_was() -> None:
    given = QUESTION_MEMBERS.answered_in_airflow(["Reject"], {"why": "no"}, "ada", "2026-11-23T11:00:00+00:00")
    assert QUESTION_MEMBERS.read(given.data, noticed=NOON) == given
    default = Question(subject="?", options=("A", "B"), defaults=("B",)).default(NOON)
    assert default is not None
    assert (default.chosen, default.via, default.by) == (("B",), "default", None)
    assert QUESTION_MEMBERS.default(NOON) is None


def test_time_and_place_of_an_answer_count_only_if_they_are_possible() -> None:
    answer = QUESTION_MEMBERS.read({"chosen": "Approve", "via": "pigeon", "at": "at noon"}, noticed=NOON)
    assert (answer.via, answer.at) == ("helmr", NOON.isoformat())


@pytest.mark.parametrize(
    "members",
    [
        {"subject": " "},
        {"options": ()},
        {"options": ("A", "A")},
        {"options": ("A", "")},
        {"options": ("A", 1)},
        {"defaults": ()},
        {"defaults": ("C",)},
        {"defaults": ("A", "B")},
        {"params": {"chosen": {}}},
    ],
    ids=repr,
)
def test_a_question_without_possible_answers_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Question(**{"subject": "?", "options": ("A", "B"), **members})


@pytest.mark.parametrize("metadata", [{}, {"approval": 1}, {"approval": {}}, {"approval": {"subject": "?"}}], ids=repr)
def test_a_token_of_something_else_asks_nothing(metadata: dict[str, Any]) -> None:
    assert Question.of(metadata) is None


TEXTS = st.text(min_size=1).filter(str.strip)


@settings(max_examples=200)
@given(
    subject=TEXTS,
    options=st.lists(TEXTS, min_size=1, max_size=5, unique=True),
    body=st.none() | st.text(),
    multiple=st.booleans(),
    default=st.booleans(),
)
def test_the_triggerer_reads_in_the_token_what_the_worker_has_asked(
    subject: str, options: list[str], body: str | None, multiple: bool, default: bool
) -> None:
    question = Question(
        subject=subject,
        options=tuple(options),
        rejections=tuple(options[:1]),
        body=body,
        multiple=multiple,
        defaults=tuple(options[-1:]) if default else None,
        params={"x": {"value": 1, "schema": {}}},
    )
    assert Question.of(question.metadata) == question
    for option in options:
        assert chosen(question, option) == [option]
