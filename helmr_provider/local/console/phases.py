"""The bar of a run's phases: how long it was queued, running and waiting, attempt by attempt."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from helmr_provider.local.console.layout import span
from helmr_provider.local.state import runs

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row


def bar(core: Core, run: Row, *, legend: bool = False) -> str:
    """Return the bar.

    :param legend: add a list of the phases in words.
    """
    begun = runs.phases(core, run["id"])
    end = core.clock.now() if run["ended_at"] is None else run["ended_at"]
    ends = [phase["at"] for phase in begun[1:]] + [end]
    live = [
        (phase["status"], phase["attempt_number"], max(until - phase["at"], 0))
        for phase, until in zip(begun, ends, strict=True)
        if phase["status"] in runs.LIVE
    ]
    total = sum(length for *_, length in live) or 1
    parts, words, attempt = "", "", 1
    for status, number, length in live:
        text = f"{status} {span(length)}" + (f", attempt {number}" if number > 1 else "")
        later = " attempt" if number > attempt else ""
        attempt = number
        share = max(round(length / total * 100), 1)
        parts += f'<span class="{escape(status)}{later}" style="flex:{share}" title="{escape(text)}"></span>'
        words += f'<li class="{escape(status)}">{escape(text)}</li>'
    label = "; ".join(f"{status} {span(length)}" for status, _, length in live)
    shown = f'<div class="phases" role="img" aria-label="{escape(label)}">{parts}</div>'
    return f'{shown}<ul class="legend">{words}</ul>' if legend else shown
