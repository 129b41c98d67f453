"""Bytes with cursors become whole lines, however they are cut, and reading on at the cursor loses none."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider._logs.exec_logs import Lines, Output, advances, read_bytes
from helmr_provider.client.errors import HelmrProtocolError

text = st.text(st.characters(codec="utf-8"), max_size=60).map(lambda value: value.replace("\r", ""))


def cut(content: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(content), *(place % (len(content) + 1) for place in places)})
    return [content[start:end] for start, end in itertools.pairwise(edges)]


@given(text, st.lists(st.integers(0, 1000)))
def test_every_cut_gives_the_same_lines(written: str, places: list[int]) -> None:
    lines = Lines()
    found = [line for piece in cut(written.encode(), places) for line in lines.take(piece)] + lines.end()
    assert found == (written.removesuffix("\n").split("\n") if written else [])
    assert lines.cursor == lines.position == len(written.encode())


@given(text, st.lists(st.integers(0, 1000)), st.integers(0, 20))
def test_reading_on_at_the_cursor_gets_every_other_line(written: str, places: list[int], stop: int) -> None:
    content = written.encode()
    first = Lines()
    found = [line for piece in cut(content, places)[:stop] for line in first.take(piece)]
    second = Lines(first.cursor)
    found += [*second.take(content[first.cursor :]), *second.end()]
    assert found == (written.removesuffix("\n").split("\n") if written else [])


@given(st.integers(0, 3), st.integers(1, 20_000))
def test_a_line_that_never_ends_comes_in_pieces_that_split_no_character(shift: int, length: int) -> None:
    written = "x" * shift + "é" * length
    lines = Lines()
    found = [line for piece in cut(written.encode(), [5000, 9000, 17000]) for line in lines.take(piece)]
    assert all(len(line.encode()) <= 8192 for line in found)
    assert "".join([*found, *lines.end()]) == written


def test_what_is_no_text_is_shown_and_not_waited_for() -> None:
    lines = Lines()
    found = lines.take(b"\x80" * 10_000)
    assert sum(map(len, found)) == 8192
    assert found[0] == "\ufffd" * 8192


def test_both_kinds_of_line_ends_end_a_line() -> None:
    assert Lines().take(b"a\r\nb\n\nc\n") == ["a", "b", "", "c"]


def chunk(start: int, content: bytes) -> SimpleNamespace:
    return SimpleNamespace(content_from=lambda cursor: content[max(0, cursor - start) :])


def test_the_first_chunk_of_a_page_may_begin_before_the_cursor() -> None:
    output = Output(stdout=4)
    assert list(output.take("stdout", [chunk(0, b"one\ntwo\n"), chunk(8, b"three\n")])) == ["two", "three"]
    assert output.cursors == {"stdout": 14, "stderr": 0}


def test_lines_of_stderr_are_marked() -> None:
    output = Output()
    assert list(output.take("stderr", [chunk(0, b"oops\nhalf")])) == ["stderr: oops"]
    assert list(output.end()) == ["stderr: half"]


def test_bytes_that_are_not_kept_are_skipped_in_two_steps() -> None:
    total = 5 * 1024 * 1024
    output, found = Output(stdout=7), SimpleNamespace(stdout_cursor=total)
    [said] = output.skip("stdout", found)
    assert f"bytes 7 to {total - 1024 * 1024} of stdout" in said
    assert output.is_behind("stdout", found)
    [said] = output.skip("stdout", found)
    assert f"to {total} of stdout" in said
    assert not output.is_behind("stdout", found)


def a_chunk(start: int, content: bytes, end: int | None = None) -> Any:
    whole = SimpleNamespace(offset_end=start + len(content) if end is None else end)
    whole.content_from = lambda cursor: content[max(0, cursor - start) :]
    return whole


class Pages:
    """A stream whose pages are the given ones."""

    def __init__(self, *pages: list[Any]) -> None:
        self.pages = list(pages)
        self.cursors: list[int] = []

    def list(self, *, cursor: int, limit: int) -> Any:
        self.cursors.append(cursor)
        return self.pages.pop(0) if self.pages else []


def test_all_pages_are_read() -> None:
    pages = Pages([a_chunk(0, b"one "), a_chunk(4, b"two ")], [a_chunk(6, b"o three")])
    assert read_bytes(pages) == b"one two three"
    assert pages.cursors == [0, 8, 13]


def test_a_page_that_leads_nowhere_is_an_error_and_not_asked_for_again() -> None:
    pages = Pages([a_chunk(0, b"one")], *([[a_chunk(0, b"one")]] * 100))
    with pytest.raises(HelmrProtocolError, match="A page of output at byte 3 ends at byte 3"):
        read_bytes(pages)
    assert pages.cursors == [0, 3]


def test_only_a_page_that_leads_on_advances() -> None:
    assert advances([a_chunk(0, b"ab")], 1)
    assert not advances([a_chunk(0, b"ab")], 2)
    assert not advances([], 0)
