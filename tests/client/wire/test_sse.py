"""The event parser: whatever way the bytes are cut, the same events."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helmr_provider.client._wire.sse import EventParser, ServerSentEvent
from helmr_provider.client.errors import HelmrProtocolError


def parse(*chunks: bytes, max_size: int = 1_048_576) -> list[ServerSentEvent]:
    parser = EventParser(max_size=max_size)
    found = [event for chunk in chunks for event in parser.feed(chunk)]
    return [*found, *parser.close()]


LINE = st.one_of(
    st.sampled_from(
        ["", "data", "data:", "data: a", "data:  b", "data:c", "id: 7", "id:8", "id: 9\0", "id", "event: run_event"]
    ),
    st.sampled_from(["retry: 10", "retry: 1x", "retry: \u0661", ": keep-alive", "other: z", "dataz: 1", "data: a: b"]),
    st.text(st.characters(exclude_characters="\r\n"), max_size=6),
)
STREAM = st.builds(
    lambda bom, lines: bom + "".join(line + end for line, end in lines),
    st.sampled_from(["", "\ufeff"]),
    st.lists(st.tuples(LINE, st.sampled_from(["\n", "\r", "\r\n"])), max_size=14),
)


@given(stream=STREAM.map(lambda text: text.encode(errors="surrogatepass")), cuts=st.lists(st.integers(0, 200)))
@example(stream=b"\xef\xbb\xbfdata: \xf0\x9f\x99\x82\r\n\r\ndata: x\r\r", cuts=list(range(40)))
def test_every_chunking_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted({cut for cut in cuts if cut < len(stream)}), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    whole = parse(stream)
    assert parse(*pieces) == whole
    assert parse(*(bytes([byte]) for byte in stream)) == whole


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), min_size=1), st.integers(0)
        ),
        max_size=5,
    ),
    st.sampled_from(["\n", "\r", "\r\n"]),
)
def test_events_written_with_any_line_end_are_read_back(written: list[tuple[str, int]], end: str) -> None:
    stream = "".join(f"id: {number}{end}data: {text}{end}{end}" for text, number in written)
    assert [(event.data, event.id) for event in parse(stream.encode())] == [(t, str(n)) for t, n in written]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\ndata: b\n\n", [ServerSentEvent("a\nb")]),
        (b"data:a\n\ndata:  b\n\n", [ServerSentEvent("a"), ServerSentEvent(" b")]),
        (b"event: x\ndata: 1\n\ndata: 2\n\n", [ServerSentEvent("1", "x"), ServerSentEvent("2")]),
        (b"id: 4\n\ndata: 1\n\n", [ServerSentEvent("1", id="4")]),
        (b"event: only\n\n", []),
        (b": keep-alive\n\n", []),
        (b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", [ServerSentEvent("a", id="1"), ServerSentEvent("b", id="1")]),
        (b"retry: 5\ndata: a\n\n", [ServerSentEvent("a", retry=5)]),
        (b"retry: 5s\ndata: a\n\n", [ServerSentEvent("a")]),
        ("retry: \u0665\ndata: a\n\n".encode(), [ServerSentEvent("a")]),
        (b"data\n\n", [ServerSentEvent("")]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [ServerSentEvent("a")]),
        (b"data: \xff\n\n", [ServerSentEvent("\ufffd")]),
        (b"\n\n\r\n\r", []),
        (b"data: a\r\ndata: b\r\n\r\n", [ServerSentEvent("a\nb")]),
        (b"data: a\rdata: b\r\r", [ServerSentEvent("a\nb")]),
        (b"data: a\n\xef\xbb\xbfdata: b\n\n", [ServerSentEvent("a")]),
        (b"\ndata: a\n\n", [ServerSentEvent("a")]),
    ],
)
def test_the_rules_of_the_format(stream: bytes, expected: list[ServerSentEvent]) -> None:
    assert parse(stream) == expected


def test_what_is_left_at_the_end_is_a_last_event_that_says_so() -> None:
    assert parse(b"id: 3\ndata: {") == [ServerSentEvent("{", id="3", complete=False)]
    assert parse(b"data: \xf0\x9f") == [ServerSentEvent("\ufffd", complete=False)]
    assert parse(b"id: 3\ndata: {}\n") == [ServerSentEvent("{}", id="3", complete=False)]


def test_an_event_over_the_limit_is_an_error_of_its_own_and_one_at_the_limit_is_not() -> None:
    line = b"data: " + b"x" * 94
    assert parse(line, b"\n\n", max_size=100) == [ServerSentEvent("x" * 94)]
    with pytest.raises(HelmrProtocolError, match="larger than 100 characters") as caught:
        parse(line, b"x", max_size=100)
    assert caught.value.oversize


def test_many_small_lines_of_one_event_count_together() -> None:
    with pytest.raises(HelmrProtocolError):
        parse(*[b"data: 12345\n"] * 20, max_size=100)


def test_keep_alives_and_finished_events_do_not_add_up_to_an_oversize_one() -> None:
    found = parse(*[b": keep-alive\n\n", b": keep-alive\n", b"data: x\n\n"] * 100, max_size=40)
    assert [event.data for event in found] == ["x"] * 100


@pytest.mark.parametrize("cut", range(1, 4))
def test_a_byte_order_mark_is_one_only_at_the_very_beginning(cut: int) -> None:
    mark = b"\xef\xbb\xbf"
    assert parse(mark[:cut], mark[cut:] + b"data: a", mark + b"b\n\n") == [ServerSentEvent("a\ufeffb")]


def test_a_comment_counts_as_long_as_it_is_not_over() -> None:
    with pytest.raises(HelmrProtocolError):
        parse(b":" + b"x" * 60, b"x" * 60, max_size=100)


def test_comments_inside_an_event_leave_room_for_exactly_what_it_may_be() -> None:
    line = b"data: " + b"x" * 44
    assert parse(*[b": keep-alive\n", line + b"\n"] * 2, b"\n", max_size=100) == [
        ServerSentEvent("x" * 44 + "\n" + "x" * 44)
    ]
    with pytest.raises(HelmrProtocolError):
        parse(*[b": keep-alive\n", line + b"\n"] * 2, b"z", max_size=100)


def test_after_an_event_there_is_again_room_for_a_whole_one() -> None:
    line = b"data: " + b"x" * 94 + b"\n\n"
    assert parse(line, line, max_size=100) == [ServerSentEvent("x" * 94)] * 2


@pytest.mark.parametrize("start", [b"\r", b"a\r"])
def test_only_the_line_feed_right_behind_a_carriage_return_belongs_to_it(start: bytes) -> None:
    # Pieces after each other: the end of a line, its line feed, and an empty line of its own that ends the event.
    assert parse(b"data: " + start, b"\n", b"\n", b"data: b\n\n") == parse(b"data: " + start + b"\n\ndata: b\n\n")
    assert len(parse(b"data: " + start, b"\n", b"\n", b"data: b\n\n")) == 2
