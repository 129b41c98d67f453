"""The frame of every page and its building blocks."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse

from helmr_provider.local.common.clock import SECOND, rfc3339
from helmr_provider.local.console.assets import ICON, SCRIPT, STYLE
from helmr_provider.local.testing.journal import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.responses import Response

    from helmr_provider.local._core import Core

_SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; connect-src 'self'; form-action 'self';"
        f" base-uri 'none'; frame-ancestors 'none'; script-src 'sha256-{_SCRIPT_HASH}'"
    ),
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_LISTS = ("Runs", "Sessions", "Tokens", "Workspaces", "Schedules")
_SHORT = 8
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_TONES = {
    "succeeded": "good",
    "completed": "good",
    "active": "good",
    "open": "good",
    "failed": "bad",
    "lost": "bad",
    "recovery_required": "bad",
    "terminated": "bad",
    "errored": "bad",
    "waiting": "wait",
    "pending": "wait",
    "running": "busy",
    "queued": "busy",
    "materializing": "busy",
}


def page(
    title: str, body: str, *, above: Sequence[tuple[str, str]] = (), live: bool = False, status: int = 200
) -> Response:
    """Return a page; everything that has the form of a secret is removed.

    :param title: its heading, text.
    :param body: HTML.
    :param above: names and paths of the pages above it, the outermost first.
    :param live: whether it keeps itself up to date.
    """
    refresh = '<noscript><meta http-equiv="refresh" content="3"></noscript>' if live else ""
    lively = ' data-live="yes"' if live else ""
    heading = without_secrets(escape(title))
    crumbs = " / ".join(f'<a href="{escape(path)}">{escape(name)}</a>' for name, path in above)
    trail = f'<nav class="crumbs" aria-label="Pages above this one">{without_secrets(crumbs)}</nav>' if crumbs else ""
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<link rel="icon" href="{ICON}">{refresh}<title>{heading} · Helmr</title>'
        f"<style>{STYLE}</style></head><body{lively}><header><div>{_navigation(title)}</div></header>"
        f"<main>{trail}<h1>{heading}</h1>{without_secrets(body)}</main><script>{SCRIPT}</script></body></html>",
        status,
        headers=_HEADERS,
    )


def _navigation(title: str) -> str:
    links = "".join(
        f'<a href="/{name.lower()}"{" aria-current=page" if name == title else ""}>{name}</a>' for name in _LISTS
    )
    return (
        f'<a href="/"><img src="{ICON}" width="18" height="18" alt="">Helmr</a>{links}<span>local control plane</span>'
    )


def missing(what: str) -> Response:
    """Answer that there is no such thing."""
    return page("Not found", f"<p>There is no such {what} here.</p>", status=404)


def section(name: str, heading: str, body: str) -> str:
    """Return a part of a page that stays up to date for itself; it is hidden while it has no content."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-heading"{"" if body else " hidden"}>'
        f'<h2 id="{name}-heading">{heading}</h2>{body}</section>'
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], nothing: str) -> str:
    """Return a table of HTML cells, or a sentence if there are none."""
    lines = "".join(
        "<tr>"
        + "".join(f'<td data-name="{head}"><span>{cell}</span></td>' for head, cell in zip(heads, row, strict=True))
        + "</tr>"
        for row in rows
    )
    if not lines:
        return f'<p class="none">{nothing}</p>'
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return f'<table class="list"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return names with their values, one a line.

    :param rows: a name and its value as HTML; a row without a value is left out.
    """
    lines = "".join(f'<tr><th scope="row">{name}</th><td>{value}</td></tr>' for name, value in rows if value)
    return f'<table class="facts">{lines}</table>' if lines else ""


def code(value: object) -> str:
    """Return a value as code; nothing if there is none."""
    return "" if value is None or value == "" else f"<code>{escape(str(value))}</code>"


def whole_id(resource_id: str) -> str:
    """Return an id with a button that copies it."""
    return code(resource_id) + copy_button(resource_id)


def tags(names: Iterable[object]) -> str:
    """Return tags."""
    return ", ".join(code(name) for name in names)


def status(name: str, tone: str = "") -> str:
    """Return a status with its colour.

    :param tone: good, bad, wait or busy, where the name alone does not tell.
    """
    return f'<span class="status {tone or _TONES.get(name, "")}">{escape(name)}</span>'


def run_link(session_id: str, run_id: str) -> str:
    """Return a link to a run's page, with a button that copies the run's id."""
    link = f'<a href="/sessions/{escape(session_id)}/runs/{escape(run_id)}">{short(run_id)}</a>'
    return f'<span class="id">{link}{copy_button(run_id)}</span>'


def short_id(resource_id: str) -> str:
    """Return the end of an id with a button that copies the whole."""
    return f'<span class="id">{short(resource_id)}{copy_button(resource_id)}</span>'


def short(resource_id: str) -> str:
    """Return the end of an id, which differs between neighbours, with the whole id on hover."""
    shown = resource_id if len(resource_id) <= _SHORT else f"…{resource_id[-_SHORT:]}"
    return f'<code title="{escape(resource_id)}">{escape(shown)}</code>'


def copy_button(text: str) -> str:
    """Return a button that copies a text."""
    return (
        f' <button type="button" class="copy" data-copy="{escape(text)}" aria-label="Copy {escape(text)}">copy</button>'
    )


def moment(core: Core, instant: int | None, *, exact: bool = False) -> str:
    """Return how long ago an instant was or how far off it is, with the instant itself on hover.

    :param core: the control plane's state, whose clock counts.
    :param instant: in microseconds.
    :param exact: whether to show the instant as well.
    """
    if instant is None:
        return ""
    text = rfc3339(instant)
    distance = core.clock.now() - instant
    size = span(abs(distance))
    shown = "now" if abs(distance) < SECOND else f"{size} ago" if distance > 0 else f"in {size}"
    after = f' <span class="soft">({text[:10]} {text[11:19]} UTC)</span>' if exact else ""
    return f'<time datetime="{text}" title="{text}">{shown}</time>{after}'


def span(microseconds: int) -> str:
    """Return a length of time in its largest unit."""
    for size, unit in _UNITS:
        if microseconds >= size * SECOND:
            return f"{microseconds // (size * SECOND)} {unit}"
    return f"{microseconds // 1000} ms" if microseconds >= 1000 else "under 1 ms"
