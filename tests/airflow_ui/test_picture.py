"""The picture of attempts, and the sentence that says the same."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.airflow_ui.picture import picture, sentence
from helmr_provider.airflow_ui.timeline import Timeline
from tests.airflow_ui.helpers import structure
from tests.airflow_ui.run_events import BEGAN, event, read, recorded

LATER = BEGAN + timedelta(minutes=12)


def test_a_waiting_run_is_one_open_bar_to_the_present() -> None:
    timeline = read(event(1, "run.created"), event(2, "log.stdout", 60))
    drawn = picture(timeline, "waiting", LATER)
    assert drawn.count('class="bar wait open"') == 1
    assert 'width="100.00%"' in drawn
    assert drawn.count('class="tick"') == 1
    assert sentence(timeline, "waiting", LATER) in drawn


def test_a_retried_run_has_a_bar_for_each_attempt_and_a_hatched_pause() -> None:
    timeline = read(*recorded(1069))
    drawn = picture(timeline, "failed", LATER)
    assert drawn.count('class="bar bad"') == 2
    assert drawn.count('class="gap"') == 1
    assert "open" not in drawn


def test_the_sentence_says_what_the_bars_show() -> None:
    timeline = read(
        event(1, "run.created"), event(2, "run.failed", 5), event(3, "run.retry_scheduled", 5, 2, delay_ms=1000)
    )
    assert sentence(timeline, "running", LATER) == (
        "2 attempts, the run is running. Attempt 1: failed after 5 s. "
        "Attempt 2: running for 11 min since it was scheduled."
    )


def test_nothing_is_drawn_without_events() -> None:
    assert picture(Timeline(), "queued", LATER) == ""


moments = st.floats(0, 1e6)


@given(st.lists(moments, max_size=30), st.floats(-1e6, 1e6))
def test_every_bar_lies_inside_the_picture_and_no_style_is_inline(seconds: list[float], now: float) -> None:
    kinds = ["run.failed", "log.stdout", "run.retry_scheduled", "run.completed"]
    events = [event(2 + n, kinds[n % 4], each, 1 + n // 3) for n, each in enumerate(seconds)]
    drawn = picture(read(event(1, "run.created"), *events), "running", BEGAN + timedelta(seconds=now))
    for tag, *attributes in structure(drawn):
        assert "style" not in attributes, tag
    for before, after in pairwise(drawn.split('x="')):
        assert before is not None
        x = after.split('"')[0]
        if x.endswith("%"):
            assert 0 <= float(x[:-1]) <= 100
