"""Paging through pending tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.client._waiting.actions import ListPendingTokens
from helmr_provider.client._waiting.token_poller import TokenPoller


def poll_over(tokens: set[str], pages: list[list[str]]) -> tuple[list[str] | None, int]:
    """Read these pages; return the missing tokens and the number of pages read."""
    poller, read = TokenPoller(lambda: 0.5), 0
    poller.begin(tokens, 0.0)
    while (page := poller.page) is not None:
        ids = pages[read]
        read += 1
        missing = poller.paged(page, 1.0, ids, str(read) if read < len(pages) else None)
        if missing is not None:
            return missing, read
    return None, read


@given(pages=st.lists(st.lists(st.text("abcdef", max_size=2), max_size=5), min_size=1, max_size=8), data=st.data())
def test_exactly_the_tokens_on_no_page_are_missing(pages: list[list[str]], data: st.DataObject) -> None:
    tokens = data.draw(st.sets(st.text("abcdefg", max_size=2), min_size=1))
    missing, read = poll_over(tokens, pages)
    assert set(missing or ()) == tokens - {token for page in pages for token in page}
    assert missing == [] or read == len(pages)


def test_a_round_ends_with_the_page_that_holds_the_last_one() -> None:
    assert poll_over({"a", "b"}, [["a"], ["b"], ["c"]]) == ([], 2)


def test_a_cursor_that_repeats_ends_the_round() -> None:
    poller = TokenPoller(lambda: 0.5)
    poller.begin({"a"}, 0.0)
    assert poller.paged(ListPendingTokens(), 1.0, [], "x") is None
    assert poller.paged(ListPendingTokens("x"), 1.0, [], "x") == ["a"]


def test_a_round_gives_up_after_so_many_pages_of_others() -> None:
    pages = [[f"other-{number}"] for number in range(TokenPoller.PAGES * 2)]
    assert poll_over({"a"}, pages) == (["a"], TokenPoller.PAGES)


def test_a_page_of_an_older_round_says_nothing() -> None:
    poller = TokenPoller(lambda: 0.5)
    poller.begin({"a"}, 0.0)
    assert poller.paged(ListPendingTokens("old"), 1.0, ["a"], None) is None
    assert poller.page == ListPendingTokens()


def test_a_round_without_waits_is_over() -> None:
    poller = TokenPoller(lambda: 0.5)
    poller.begin({"a", "b"}, 0.0)
    poller.forget("a")
    assert poller.page is not None
    poller.forget("b")
    assert poller.page is None


@pytest.mark.parametrize(("pages", "answer_time", "pause"), [(1, 0.0, 1.5), (8, 0.0, 6.0), (1, 4.0, 8.0)])
def test_rounds_of_many_pages_and_slow_answers_are_further_apart(pages: int, answer_time: float, pause: float) -> None:
    poller = TokenPoller(lambda: 0.5)
    poller.begin({"a"}, 0.0)
    for number in range(pages):
        assert poller.page is not None
        poller.paged(poller.page, 10.0, [], str(number) if number < pages - 1 else None, answer_time)
    assert poller.due_at == pytest.approx(10.0 + pause)
    poller.hurry(11.0)
    assert poller.due_at == 11.0
