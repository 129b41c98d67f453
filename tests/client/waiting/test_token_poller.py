"""Paging through pending tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.client._waiting.actions import ListPendingTokens
from helmr_provider.client._waiting.token_poller import TokenPoller


def sweep_over(tokens: set[str], pages: list[list[str]]) -> tuple[set[str] | None, int]:
    """Sweep over these pages; give the missing tokens and the number of pages read."""
    sweep, read = TokenPoller(), 0
    sweep.begin(tokens)
    while (page := sweep.page) is not None:
        ids = pages[read]
        read += 1
        missing = sweep.paged(page, ids, str(read) if read < len(pages) else None)
        if missing is not None:
            return missing, read
    return None, read


@given(pages=st.lists(st.lists(st.text("abcdef", max_size=2), max_size=5), min_size=1, max_size=8), data=st.data())
def test_exactly_the_tokens_on_no_page_are_missing(pages: list[list[str]], data: st.DataObject) -> None:
    tokens = data.draw(st.sets(st.text("abcdefg", max_size=2), min_size=1))
    missing, read = sweep_over(tokens, pages)
    assert missing == tokens - {token for page in pages for token in page}
    assert missing == set() or read == len(pages)


def test_a_sweep_ends_with_the_page_that_holds_the_last_one() -> None:
    assert sweep_over({"a", "b"}, [["a"], ["b"], ["c"]]) == (set(), 2)


def test_a_cursor_that_repeats_ends_the_sweep() -> None:
    sweep = TokenPoller()
    sweep.begin({"a"})
    assert sweep.paged(ListPendingTokens(), [], "x") is None
    assert sweep.paged(ListPendingTokens("x"), [], "x") == {"a"}


def test_a_sweep_gives_up_after_so_many_pages_of_others() -> None:
    pages = [[f"other-{number}"] for number in range(TokenPoller.PAGES * 2)]
    assert sweep_over({"a"}, pages) == ({"a"}, TokenPoller.PAGES)


def test_a_page_of_an_older_sweep_says_nothing() -> None:
    sweep = TokenPoller()
    sweep.begin({"a"})
    assert sweep.paged(ListPendingTokens("old"), ["a"], None) is None
    assert sweep.page == ListPendingTokens()


def test_a_sweep_for_nobody_any_more_is_over() -> None:
    sweep = TokenPoller()
    sweep.begin({"a", "b"})
    sweep.forget("a")
    assert sweep.page is not None
    sweep.forget("b")
    assert sweep.page is None
