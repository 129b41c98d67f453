"""A run's output as lines of a log: complete, bounded, each once."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider._logs.run_logs import RunLogLines, is_worth_retrying, write_tail
from helmr_provider.client.errors import HelmrApiError, HelmrConnectionError, HelmrProtocolError
from helmr_provider.client.models.logs import LogChunk, LogSnapshot


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str, *args: Any) -> None:
        self.lines.append(text % args)

    warning = info


def chunk(number: int, content: bytes, stream: str = "stdout") -> LogChunk:
    encoded = base64.b64encode(content).decode()
    return LogChunk(id=str(number), stream=stream, content_base64=encoded, at=datetime.now(UTC))


def chunks(*contents: bytes) -> list[LogChunk]:
    return [chunk(number, content) for number, content in enumerate(contents, 1)]


def written(*pieces: LogChunk, cursor: str | None = None) -> list[str]:
    log = Log()
    lines = RunLogLines(log, cursor)
    for piece in pieces:
        lines.take(piece)
    lines.end()
    return log.lines


def test_a_line_is_written_once_it_is_complete() -> None:
    log = Log()
    lines = RunLogLines(log)
    lines.take(chunk(1, b"one\ntw"))
    assert log.lines == ["[stdout] one"]
    lines.take(chunk(2, b"o\n"))
    assert log.lines == ["[stdout] one", "[stdout] two"]
    lines.take(chunk(3, b"three"))
    lines.end()
    assert log.lines[2:] == ["[stdout] three"]


def test_the_streams_do_not_mix_within_a_line() -> None:
    assert written(chunk(1, b"out "), chunk(2, b"err\n", "stderr"), chunk(3, b"put\n")) == [
        "[stderr] err",
        "[stdout] out put",
    ]


def test_a_chunk_that_was_seen_is_not_written_again() -> None:
    first, second = chunks(b"one\n", b"two\n")
    assert written(first, first, second, first) == ["[stdout] one", "[stdout] two"]
    assert written(first, second, cursor="1") == ["[stdout] two"]


@given(st.lists(st.text(alphabet="aé✓ \t", min_size=1).filter(str.strip), max_size=6), st.data())
def test_however_the_output_is_cut_the_lines_are_the_same(lines: list[str], data: st.DataObject) -> None:
    content = "".join(f"{line}\n" for line in lines).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(content)), max_size=8)))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    assert written(*chunks(*pieces)) == [f"[stdout] {line}" for line in lines]


def test_of_a_progress_bar_the_last_state_is_written() -> None:
    assert written(*chunks(b"10 %\r50 %\r100 %\nwindows\r\n")) == ["[stdout] 100 %", "[stdout] windows"]


def test_a_line_without_an_end_does_not_grow_for_ever() -> None:
    shown = written(*chunks(*[b"x" * 1000] * 9))
    assert "".join(line.removeprefix("[stdout] ").partition(" …")[0] for line in shown).count("x") <= 9000
    assert max(map(len, shown)) < 5000
    assert len(shown) == 2


def test_a_credential_in_the_output_is_not_written() -> None:
    assert written(*chunks(b"token hlmr_pat_abcdef123 for you\n")) == ["[stdout] token hlmr_pat_*** for you"]


def test_a_flood_is_thinned_out_and_its_end_is_shown() -> None:
    now = [0.0]
    log = Log()
    lines = RunLogLines(log, clock=lambda: now[0])
    lines.take(chunk(1, b"".join(b"%d\n" % n for n in range(1000))))
    assert log.lines == [f"[stdout] {n}" for n in range(200)]
    now[0] = 1.0
    lines.take(chunk(2, b"after a second\n"))
    assert log.lines[200:] == [
        "800 lines of the run's output are left out here; the console has all.",
        "[stdout] after a second",
    ]
    lines.take(chunk(3, b"".join(b"%d\n" % n for n in range(1000, 1169))))
    lines.end()
    assert log.lines[202] == "[stdout] 1000"
    assert log.lines[221:] == [
        "100 lines of the run's output are left out here; the console has all.",
        *[f"[stdout] {n}" for n in range(1119, 1169)],
    ]


def test_a_chunk_that_cannot_be_decoded_is_passed_over() -> None:
    log = Log()
    lines = RunLogLines(log)
    broken = LogChunk(id="1", stream="stdout", content_base64="abc", at=datetime.now(UTC))
    with pytest.raises(HelmrProtocolError, match="not base64"):
        lines.take(broken)
    lines.take(broken)
    lines.take(chunk(2, b"next\n"))
    assert log.lines == ["[stdout] next"]


# When looking at it fails


def test_silence_is_no_news() -> None:
    log = Log()
    assert is_worth_retrying(HelmrConnectionError("silent", operation="getRunLogs"), log)
    assert log.lines == []


def test_a_broken_frame_is_skipped() -> None:
    log = Log()
    lines = RunLogLines(log, "4")
    assert is_worth_retrying(HelmrProtocolError("bad", operation="getRunLogs", cursor="5"), log, lines)
    assert lines.cursor == "5"
    assert "HelmrProtocolError: bad" in log.lines[0]


@pytest.mark.parametrize(("status", "helps"), [(503, True), (429, True), (403, False), (404, False)])
def test_a_refusal_ends_the_reading_and_an_outage_does_not(status: int, helps: bool) -> None:
    error = HelmrApiError("said", status=status, operation="getRunLogs")
    assert is_worth_retrying(error, Log()) is helps


# The tail


def snapshot(stdout: bytes = b"", stderr: bytes = b"") -> LogSnapshot:
    return LogSnapshot(
        stdout_base64=base64.b64encode(stdout).decode(),
        stderr_base64=base64.b64encode(stderr).decode(),
        stdout_bytes=len(stdout),
        stderr_bytes=len(stderr),
    )


def tail(of: LogSnapshot) -> list[str]:
    log = Log()
    write_tail(log, of)
    return log.lines


def test_a_short_output_is_its_own_tail() -> None:
    assert tail(snapshot(b"one\n\ntwo\n", b"oops\n")) == ["[stdout] one", "[stdout] ", "[stdout] two", "[stderr] oops"]
    assert tail(snapshot()) == []


def test_of_a_long_output_the_last_lines_are_shown_and_how_much_there_is() -> None:
    content = b"".join(b"%d\n" % n for n in range(1000))
    assert tail(snapshot(content)) == [
        f"The last 50 lines of the run's stdout, which has {len(content)} bytes:",
        *[f"[stdout] {n}" for n in range(950, 1000)],
    ]


def test_one_endless_line_is_cut() -> None:
    [said, line] = tail(snapshot(b"x" * 100_000))
    assert "100000 bytes" in said
    assert len(line) < 5000
