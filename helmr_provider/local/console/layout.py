"""The frame and style of every page, its building blocks, and the script that keeps it up to date."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse

from helmr_provider.local.common.clock import SECOND, rfc3339
from helmr_provider.local.testing.journal import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from starlette.responses import Response

    from helmr_provider.local._core import Core

STYLE = """
:root { color-scheme: light dark; --ink: #1c232b; --soft: #5c6873; --line: #dfe4e9; --back: #f6f7f9; --card: #fff;
  --link: #0b5cad; --good: #1a7f4b; --bad: #c0362c; --wait: #9a6200; --busy: #0b5cad }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --soft: #9aa7b3; --line: #323b44; --back: #14191e;
  --card: #1c2329; --link: #7db7f5; --good: #5cc890; --bad: #ff8b80; --wait: #e5b04b; --busy: #7db7f5 } }
* { box-sizing: border-box }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back) }
header { background: var(--card); border-bottom: 1px solid var(--line) }
header div, main { max-width: 72rem; margin: 0 auto; padding: .8rem 1.2rem }
header a { color: inherit; font-weight: 600; text-decoration: none; margin-right: .8rem }
header span { color: var(--soft) }
h1 { font-size: 1.4rem; margin: .6rem 0 1rem; overflow-wrap: anywhere } h2 { font-size: 1.05rem; margin: 0 0 .5rem }
h3 { font-size: .9rem; color: var(--soft); font-weight: 500; margin: .6rem 0 .2rem } .facts th { width: 11rem }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.2rem;
  margin: 0 0 1rem }
a { color: var(--link) } :focus-visible { outline: 3px solid var(--link); outline-offset: 2px }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem 1rem .35rem 0; vertical-align: top; border-bottom: 1px solid var(--line) }
tr:last-child > * { border-bottom: 0 } th { color: var(--soft); font-weight: 500; white-space: nowrap }
code, pre, textarea { font: 13px/1.5 ui-monospace, monospace } code { overflow-wrap: anywhere }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--back); border-radius: 6px; padding: .7rem;
  margin: .4rem 0 0 }
.none, .soft { color: var(--soft) } .status { white-space: nowrap }
.status::before { content: ""; display: inline-block; width: .6em; height: .6em; border-radius: 50%;
  margin-right: .45em; background: var(--soft) }
.good::before { background: var(--good) } .bad::before { background: var(--bad) }
.wait::before { background: var(--wait) } .busy::before { background: var(--busy) }
ol.timeline { list-style: none; margin: 0; padding: 0 0 0 .3rem }
.timeline li { border-left: 2px solid var(--line); padding: 0 0 .7rem 1rem; position: relative }
.timeline li:last-child { border-color: transparent; padding-bottom: 0 }
.timeline li::before { content: ""; position: absolute; left: -6px; top: .45em; width: 10px; height: 10px;
  border-radius: 50%; background: var(--soft) }
.timeline li.good::before { background: var(--good) } .timeline li.bad::before { background: var(--bad) }
.timeline li.wait::before { background: var(--wait) } summary { cursor: pointer; color: var(--soft) }
.timeline time { color: var(--soft); margin-right: .7rem; font-variant-numeric: tabular-nums }
form { border-top: 1px solid var(--line); padding: .8rem 0 } form:first-of-type { border: 0; padding-top: 0 }
form:last-child { padding-bottom: 0 }
label { display: block; color: var(--soft); margin: .4rem 0 .2rem }
textarea { width: 100%; padding: .5rem; border: 1px solid var(--soft); border-radius: 6px; color: inherit;
  background: var(--back) }
button { font: inherit; font-weight: 600; margin-top: .5rem; padding: .45rem 1.1rem; border: 0; border-radius: 6px;
  background: var(--link); color: var(--card); cursor: pointer }
.error { color: var(--bad); font-weight: 600 }
button.copy { font: 11px/1.4 system-ui, sans-serif; margin: 0 0 0 .2rem; padding: 0 .4rem; color: var(--soft);
  background: none; border: 1px solid var(--line) }
form.filter { display: flex; flex-wrap: wrap; gap: .8rem; align-items: end; border: 0; padding: 0 0 .8rem }
form.filter label { margin: 0 } form.filter select, form.filter input { font: inherit; padding: .3rem .5rem;
  color: inherit; background: var(--back); border: 1px solid var(--soft); border-radius: 6px }
form.filter button { margin: 0 } nav.pages { display: flex; gap: 1rem; margin-top: .8rem }
.phases { display: flex; gap: 2px; height: 1.1rem; min-width: 8rem }
.phases span { border-radius: 3px; min-width: 4px; background: var(--soft) }
.phases .queued { background: var(--line) } .phases .running { background: var(--busy) }
.phases .waiting { background: var(--wait) } .phases .attempt { margin-left: 4px }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; margin: .5rem 0 0 }
.legend li::before { content: ""; display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  margin-right: .4em; background: var(--line) }
.legend .running::before { background: var(--busy) } .legend .waiting::before { background: var(--wait) }
.timeline pre { margin: .2rem 0 0; padding: .3rem .6rem } .timeline pre.stderr { border-left: 3px solid var(--bad) }
@media (max-width: 42rem) {
  header div, main { padding: .7rem .8rem } section { padding: .8rem }
  table.list thead { display: none }
  table.list tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line) }
  table.list tr:last-child { border: 0 }
  table.list td { display: flex; gap: .8rem; border: 0; padding: .1rem 0 }
  table.list td::before { content: attr(data-name); flex: 0 0 5.5rem; color: var(--soft) }
  table.facts th { padding-right: .8rem; width: auto }
}
"""
# A part with focus, changed text or open details is not replaced.
SCRIPT = """
const typing = () => document.activeElement.tagName === 'BUTTON' ? null : document.activeElement;
const used = part => part.contains(typing()) || part.querySelector('details[open]') ||
  [...part.querySelectorAll('textarea')].some(field => field.value !== field.defaultValue);
async function refresh() {
  try {
    const answer = await fetch(location.href, {cache: 'no-store'});
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    for (const part of document.querySelectorAll('section[id]')) {
      const next = fresh.getElementById(part.id);
      if (next && next.innerHTML !== part.innerHTML && !used(part)) part.innerHTML = next.innerHTML;
    }
    if (!fresh.body.dataset.live) return;
  } catch { /* the control plane may be down for a moment */ }
  setTimeout(refresh, 1000);
}
if (document.body.dataset.live) setTimeout(refresh, 1000);
document.addEventListener('click', async event => {
  const text = event.target.dataset.copy;
  if (!text) return;
  await navigator.clipboard.writeText(text);
  event.target.textContent = 'copied';
});
"""
_SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'; form-action 'self'; base-uri 'none';"
        f" frame-ancestors 'none'; script-src 'sha256-{_SCRIPT_HASH}'"
    ),
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_NAVIGATION = (
    '<a href="/">Helmr</a> <a href="/runs">Runs</a> <a href="/sessions">Sessions</a> <span>local control plane</span>'
)
_SHORT = 8
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_TONES = {
    "succeeded": "good",
    "completed": "good",
    "active": "good",
    "open": "good",
    "failed": "bad",
    "lost": "bad",
    "terminated": "bad",
    "errored": "bad",
    "waiting": "wait",
    "running": "busy",
    "queued": "busy",
    "materializing": "busy",
}


def page(title: str, body: str, *, live: bool = False, status: int = 200) -> Response:
    """Return a page; everything that has the form of a secret is removed.

    :param title: its heading, text.
    :param body: HTML.
    :param live: whether it keeps itself up to date.
    """
    refresh = '<noscript><meta http-equiv="refresh" content="3"></noscript>' if live else ""
    lively = ' data-live="yes"' if live else ""
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<link rel="icon" href="data:,">{refresh}<title>{without_secrets(escape(title))}</title>'
        f"<style>{STYLE}</style></head><body{lively}><header><div>{_NAVIGATION}</div>"
        f"</header><main><h1>{without_secrets(escape(title))}</h1>{without_secrets(body)}</main><script>{SCRIPT}</script></body></html>",
        status,
        headers=_HEADERS,
    )


def missing(what: str) -> Response:
    """Answer that there is no such thing."""
    return page("Not found", f"<p>There is no such {what} here.</p>", status=404)


def section(name: str, heading: str, body: str) -> str:
    """Return a part of a page that stays up to date for itself."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-heading"><h2 id="{name}-heading">{heading}</h2>{body}</section>'
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


def facts(shown: Mapping[str, object], names: Sequence[str]) -> str:
    """Return the members that are there, one a line."""
    rows = "".join(
        f'<tr><th scope="row">{name.replace("_", " ")}</th>'
        f"<td>{status(str(shown[name])) if name == 'status' else f'<code>{escape(str(shown[name]))}</code>'}</td></tr>"
        for name in names
        if shown.get(name) is not None
    )
    return f'<table class="facts">{rows}</table>'


def status(name: str, tone: str = "") -> str:
    """Return a status with its colour.

    :param tone: good, bad, wait or busy, where the name alone does not tell.
    """
    return f'<span class="status {tone or _TONES.get(name, "")}">{escape(name)}</span>'


def run_link(session_id: str, run_id: str) -> str:
    """Return a link to a run's page, with a button that copies the run's id."""
    return f'<a href="/sessions/{escape(session_id)}/runs/{escape(run_id)}">{short(run_id)}</a>{copy_button(run_id)}'


def short(resource_id: str) -> str:
    """Return the end of an id, which differs between neighbours, with the whole id on hover."""
    shown = resource_id if len(resource_id) <= _SHORT else f"…{resource_id[-_SHORT:]}"
    return f'<code title="{escape(resource_id)}">{escape(shown)}</code>'


def copy_button(text: str) -> str:
    """Return a button that copies a text."""
    return (
        f' <button type="button" class="copy" data-copy="{escape(text)}" aria-label="Copy {escape(text)}">copy</button>'
    )


def moment(core: Core, instant: int | None) -> str:
    """Return how long ago an instant was or how far off it is, with the instant itself on hover.

    :param core: the control plane's state, whose clock counts.
    :param instant: in microseconds.
    """
    if instant is None:
        return ""
    text = rfc3339(instant)
    distance = core.clock.now() - instant
    size = span(abs(distance))
    shown = "now" if abs(distance) < SECOND else f"{size} ago" if distance > 0 else f"in {size}"
    return f'<time datetime="{text}" title="{text}">{shown}</time>'


def span(microseconds: int) -> str:
    """Return a length of time in its largest unit."""
    for size, unit in _UNITS:
        if microseconds >= size * SECOND:
            return f"{microseconds // (size * SECOND)} {unit}"
    return f"{microseconds // 1000} ms"
