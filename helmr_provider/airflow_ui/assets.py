"""The style and the script of all pages, and the security policy that allows nothing else. No I/O."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #18181b; --soft: #6b7280; --line: #e4e4e7; --fill: #f4f4f5; --link: #0b5cad;
  --good: #1a7f4b; --bad: #c0362c; --wait: #a16207; --busy: #2563eb; --idle: #9ca3af }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e7; --soft: #a1a1aa; --line: #3f3f46; --fill: #27272a;
  --link: #7db7f5; --good: #5cc890; --bad: #ff8b80; --wait: #e5b04b; --busy: #7aa7ff; --idle: #71717a } }
:root.light { color-scheme: light; --ink: #18181b; --soft: #6b7280; --line: #e4e4e7; --fill: #f4f4f5; --link: #0b5cad;
  --good: #1a7f4b; --bad: #c0362c; --wait: #a16207; --busy: #2563eb; --idle: #9ca3af }
:root.dark { color-scheme: dark; --ink: #e4e4e7; --soft: #a1a1aa; --line: #3f3f46; --fill: #27272a; --link: #7db7f5;
  --good: #5cc890; --bad: #ff8b80; --wait: #e5b04b; --busy: #7aa7ff; --idle: #71717a }
* { box-sizing: border-box }
html { background: transparent }
body { margin: 0; padding: 16px; font: 14px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink);
  background: transparent; overflow-wrap: anywhere }
main { max-width: 72rem }
section { margin: 0 0 22px }
h1 { font-size: 20px; line-height: 1.3; font-weight: 600; margin: 0 }
h2 { font-size: 12px; font-weight: 600; letter-spacing: .04em; text-transform: uppercase; color: var(--soft);
  margin: 0 0 8px }
p { margin: 0 0 8px } p:last-child { margin-bottom: 0 }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: 2px }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; border-radius: 3px }
.head { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 16px; margin: 0 0 6px }
.facts { display: flex; flex-wrap: wrap; gap: 4px 18px; color: var(--soft); margin: 0 0 10px; padding: 0 }
.facts b { color: var(--ink); font-weight: 500 }
.links { display: flex; flex-wrap: wrap; gap: 8px; margin: 0 0 4px; padding: 0; list-style: none }
.button { display: inline-block; padding: 3px 12px; border: 1px solid var(--line); border-radius: 6px;
  text-decoration: none; font-weight: 500 }
.button:hover { background: var(--fill) }
.button.main { border-color: var(--wait); color: var(--wait) }
.status { white-space: nowrap; font-weight: 600 }
h1 .status { display: inline-block; margin-right: .3em }
.status::before { content: ""; display: inline-block; width: .62em; height: .62em; border-radius: 50%;
  margin-right: .45em; background: var(--idle) }
.status.good { color: var(--good) } .status.good::before { background: var(--good) }
.status.bad { color: var(--bad) } .status.bad::before { background: var(--bad) }
.status.wait { color: var(--wait) } .status.wait::before { background: var(--wait) }
.status.busy { color: var(--busy) } .status.busy::before { background: var(--busy) }
.notice, .question { border-left: 3px solid var(--wait); background: var(--fill); padding: 10px 14px;
  border-radius: 0 6px 6px 0 }
.notice.bad { border-color: var(--bad) } .notice.soft { border-color: var(--idle) }
.question h2 { color: var(--wait) } .question .subject { font-size: 16px; font-weight: 600 }
.question ul { margin: 8px 0 0 }
.foreign { unicode-bidi: isolate; white-space: pre-wrap }
.old > section:not(#problem) { opacity: .55 }
.soft { color: var(--soft) }
.picture { display: block; width: 100%; overflow: visible }
.track { fill: var(--fill) } .bar.good { fill: var(--good) } .bar.bad { fill: var(--bad) }
.bar.wait { fill: var(--wait) } .bar.busy { fill: var(--busy) } .bar.soft { fill: var(--idle) }
.gap { fill: url(#hatch) } .hatch { fill: var(--idle) } .tick { fill: #fff; opacity: .75 }
.legend { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 2px 16px; color: var(--soft);
  font-size: 12px; margin: 6px 0 0 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line) }
tbody tr:last-child > * { border-bottom: 0 }
th { color: var(--soft); font-weight: 500; white-space: nowrap }
td.nowrap, time { white-space: nowrap; font-variant-numeric: tabular-nums }
code, pre { font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, monospace }
pre { margin: 0 0 10px; padding: 10px 12px; background: var(--fill); border-radius: 6px; white-space: pre-wrap;
  max-height: 32rem; overflow: auto; unicode-bidi: isolate }
summary { cursor: pointer; font-weight: 500; padding: 2px 0 }
details > :not(summary) { margin-top: 8px }
h3 { font-size: 12px; font-weight: 500; color: var(--soft); margin: 8px 0 4px }
.sr { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
#away:empty { display: none }
@media (max-width: 40rem) {
  body { padding: 12px } .legend .count { order: 1; width: 100% }
  table.list thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
  table.list, table.list tbody, table.list tr, table.list td { display: block }
  table.list tr { padding: 7px 0; border-bottom: 1px solid var(--line) }
  table.list tr:last-child { border-bottom: 0 }
  table.list td { border: 0; padding: 1px 0 }
  table.list td:empty { display: none }
  table.list td[data-name]::before { content: attr(data-name) " "; color: var(--soft) }
}
@media (prefers-reduced-motion: no-preference) {
  main:not(.old) .bar.open { animation: breathe 2.4s ease-in-out infinite }
  @keyframes breathe { 50% { opacity: .62 } }
}
"""

# Sections are replaced one by one, and only those that changed. One that a person uses is left alone.
SCRIPT: Final = """
'use strict';
const outer = (() => { try { return parent !== window && parent.document ? parent : null } catch { return null } })();
const root = document.documentElement;
const follow = () => {
  const theme = outer.document.documentElement.classList;
  for (const name of ['dark', 'light']) root.classList.toggle(name, theme.contains(name));
};
if (outer) {
  follow();
  new MutationObserver(follow).observe(outer.document.documentElement, {attributeFilter: ['class']});
}
document.addEventListener('click', event => {
  const link = event.target.closest('a[data-open]');
  if (!link || !outer) return;
  event.preventDefault();
  const copy = outer.document.createElement('a');
  copy.href = link.href;
  if (link.dataset.open === 'new' || event.ctrlKey || event.metaKey) {
    copy.target = '_blank';
    copy.rel = 'noopener noreferrer';
  }
  outer.document.body.append(copy);
  copy.click();
  copy.remove();
});
const main = document.querySelector('main');
const away = document.getElementById('away');
const inUse = part => {
  const selected = getSelection();
  return part.contains(document.activeElement) || part.querySelector('details[open]')
    || (!selected.isCollapsed && selected.containsNode(part, true));
};
const say = text => { if (away.textContent !== text) away.textContent = text };
const put = html => {
  const fresh = new DOMParser().parseFromString(html, 'text/html').querySelector('main');
  if (!fresh) return;
  main.dataset.next = fresh.dataset.next;
  main.className = fresh.className;
  const before = [...main.querySelectorAll(':scope > section')];
  const after = [...fresh.querySelectorAll(':scope > section')];
  const kept = new Set(after.map(each => each.id));
  for (const old of before) if (!kept.has(old.id)) old.remove();
  let place = null;
  for (const next of after) {
    const old = document.getElementById(next.id);
    if (!old) { if (place) place.after(next); else main.prepend(next); place = next; continue }
    if (old.outerHTML !== next.outerHTML && !inUse(old)) { old.replaceWith(next); place = next } else place = old;
  }
};
let etag = main.dataset.tag;
let timer = 0;
const later = seconds => {
  clearTimeout(timer);
  if (seconds) timer = setTimeout(refresh, seconds * 1000 * (0.85 + Math.random() * 0.3));
};
async function refresh() {
  if (document.hidden) { later(30); return }
  try {
    const answer = await fetch('?part=live', {cache: 'no-store', headers: etag ? {'If-None-Match': etag} : {}});
    if (answer.status === 401 || answer.status === 403) {
      say('You are signed out, or may not see this any more.');
      return;
    }
    if (answer.status === 503) { later(5); return }
    if (answer.status !== 304 && !answer.ok) throw new Error(answer.status);
    if (answer.status !== 304) { put(await answer.text()); etag = answer.headers.get('ETag') }
    say('');
    later(Number(main.dataset.next));
  } catch {
    say('Airflow does not answer. Trying again.');
    later(15);
  }
}
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && Number(main.dataset.next)) later(0.5);
});
document.addEventListener('toggle', async event => {
  const part = event.target;
  if (!part.open || part.dataset.part !== 'log') return;
  const body = part.querySelector('[data-body]');
  try {
    const answer = await fetch('?part=log', {cache: 'no-store'});
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    body.replaceChildren(...fresh.body.childNodes);
    for (const each of body.querySelectorAll('pre')) each.scrollTop = each.scrollHeight;
  } catch { body.textContent = 'The output cannot be read now.' }
}, true);
later(Number(main.dataset.next));
"""


def _hash(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_hash(STYLE)}'; script-src 'sha256-{_hash(SCRIPT)}'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every answer, errors included."""
