"""The picture of a run: one bar for each attempt, the pauses between them, and ticks for output. No I/O."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from helmr_provider.airflow_ui.formatting import age, tone
from helmr_provider.airflow_ui.markup import Markup, element

if TYPE_CHECKING:
    from datetime import datetime

    from helmr_provider.airflow_ui.timeline import Timeline

# Positions are percentages of the frame's width, heights are pixels: so nothing is stretched.
_LANE: Final = 22
_BAR: Final = 14
# A lane each for this many attempts; the rest share the last picture's sentence.
_MOST_LANES: Final = 10
_NARROWEST: Final = 0.6


def picture(timeline: Timeline, status: str, now: datetime) -> Markup:
    """Draw a run.

    :param timeline: its events.
    :param status: the run's present status, which colours the open attempt.
    :param now: right end of an open attempt.
    """
    if not timeline.attempts:
        return Markup("")
    began = timeline.attempts[0].began
    shown = timeline.attempts[-_MOST_LANES:]
    ends = [each for attempt in timeline.attempts for each in (attempt.began, attempt.ended) if each is not None]
    end = max([*ends, now] if timeline.ended is None else ends)
    span = max((end - began) / timedelta(seconds=1), 0.001)

    def x(at: datetime) -> float:
        return round(min(max((at - began) / timedelta(seconds=1) / span, 0.0), 1.0) * 100, 2)

    parts: list[Markup] = []
    previous_end: datetime | None = None
    for lane, attempt in enumerate(shown):
        top = lane * _LANE
        left, right = x(attempt.began), x(attempt.ended or max(end, attempt.began))
        parts.append(element("rect", class_="track", x=0, y=top, width="100%", height=_BAR, rx=3))
        if previous_end is not None and attempt.began > previous_end:
            gap = x(previous_end)
            parts.append(
                element(
                    "rect", class_="gap", x=f"{gap}%", y=top, width=f"{max(left - gap, 0.1):.2f}%", height=_BAR, rx=2
                )
            )
        width = max(right - left, _NARROWEST)
        left = min(left, 100 - width)
        colour = tone(attempt.outcome or status)
        parts.append(
            element(
                "rect",
                class_=f"bar {colour}" if attempt.ended else f"bar {colour} open",
                x=f"{left:.2f}%",
                y=top,
                width=f"{width:.2f}%",
                height=_BAR,
                rx=3,
            )
        )
        parts += [
            element("rect", class_="tick", x=f"{min(x(tick), 99.5)}%", y=top + 3, width=2, height=_BAR - 6)
            for tick in attempt.output
        ]
        previous_end = attempt.ended
    height = len(shown) * _LANE - (_LANE - _BAR)
    hatch = element(
        "pattern",
        element("rect", class_="hatch", x=0, y=0, width=3, height=6),
        id="hatch",
        width=6,
        height=6,
        patternUnits="userSpaceOnUse",
        patternTransform="rotate(45)",
    )
    return element(
        "svg",
        element("defs", hatch),
        *parts,
        role="img",
        aria_label=sentence(timeline, status, now),
        width="100%",
        class_="picture",
        height=height,
    )


def sentence(timeline: Timeline, status: str, now: datetime) -> str:
    """Say in words what the picture shows.

    :param timeline: events of the run.
    :param status: the run's present status.
    :param now: end of an open attempt.
    """
    count = len(timeline.attempts)
    sentences = [f"{count} attempt{'' if count == 1 else 's'}, the run is {status}."]
    for attempt in timeline.attempts[-_MOST_LANES:]:
        took = age(max((attempt.ended or now) - attempt.began, timedelta(0)))
        ended = f"{attempt.outcome} after {took}" if attempt.ended else f"{status} for {took} since it was scheduled"
        written = f", with output {len(attempt.output)} times" if attempt.output else ""
        sentences.append(f"Attempt {attempt.number}: {ended}{written}.")
    return " ".join(sentences)
