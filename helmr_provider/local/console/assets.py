"""The style, the script and the icon of the pages."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ink: #1c232b; --soft: #5c6873; --line: #dfe4e9; --back: #f6f7f9; --card: #fff;
  --link: #0b5cad; --good: #1a7f4b; --bad: #c0362c; --wait: #9a6200; --busy: #0b5cad }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --soft: #9aa7b3; --line: #323b44; --back: #14191e;
  --card: #1c2329; --link: #7db7f5; --good: #5cc890; --bad: #ff8b80; --wait: #e5b04b; --busy: #7db7f5 } }
* { box-sizing: border-box }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back) }
header { background: var(--card); border-bottom: 1px solid var(--line) }
header div, main { max-width: 72rem; margin: 0 auto; padding: .8rem 1.2rem }
header div { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem 1rem }
header a { color: inherit; text-decoration: none } header a:hover, header a[aria-current] { text-decoration: underline;
  text-underline-offset: .3em; text-decoration-thickness: 2px } header img { vertical-align: -.3em;
  margin-right: .4rem } header a:first-child { font-weight: 600 } header span { color: var(--soft); margin-left: auto }
nav.crumbs { color: var(--soft); margin: .4rem 0 -.4rem; overflow-wrap: anywhere }
h1 { font-size: 1.4rem; margin: .6rem 0 1rem; overflow-wrap: anywhere } h2 { font-size: 1.05rem; margin: 0 0 .5rem }
h3 { font-size: .9rem; color: var(--soft); font-weight: 500; margin: .6rem 0 .2rem } .facts th { width: 11rem }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.2rem;
  margin: 0 0 1rem }
a { color: var(--link) } :focus-visible { outline: 3px solid var(--link); outline-offset: 2px }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem 1rem .35rem 0; vertical-align: top; border-bottom: 1px solid var(--line) }
tr:last-child > * { border-bottom: 0 } th { color: var(--soft); font-weight: 500; white-space: nowrap }
code, pre, textarea { font: 13px/1.5 ui-monospace, monospace } pre, .facts td, .name { overflow-wrap: anywhere }
.id, time { white-space: nowrap } .text { white-space: pre-wrap }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--back); border-radius: 6px; padding: .7rem;
  margin: .4rem 0 0 }
.none, .soft { color: var(--soft) } .none { margin: 0 } .status { white-space: nowrap }
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
form.filter { display: flex; flex-wrap: wrap; gap: .5rem .8rem; align-items: center; border: 0; padding: 0 0 .8rem }
form.filter label { margin: 0 } form.filter select, form.filter input { font: inherit; padding: .3rem .5rem;
  color: inherit; background: var(--back); border: 1px solid var(--soft); border-radius: 6px }
form.filter button { margin: 0 } nav.pages { display: flex; gap: 1rem; margin-top: .8rem }
.phases { display: flex; gap: 2px; height: 1.1rem; min-width: 8rem; margin-top: .2rem }
.phases span { border-radius: 3px; min-width: 4px; background: var(--soft) }
.phases .queued { background: var(--line) } .phases .running { background: var(--busy) }
.phases .waiting { background: var(--wait) } .phases .attempt { margin-left: 4px }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; margin: .5rem 0 0 }
.legend li::before { content: ""; display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  margin-right: .4em; background: var(--line) }
.legend .running::before { background: var(--busy) } .legend .waiting::before { background: var(--wait) }
.timeline .summary { color: var(--bad); overflow-wrap: anywhere }
.question { font-weight: 600; overflow-wrap: anywhere }
.timeline pre { margin: .2rem 0 0; padding: .3rem .6rem } .timeline pre.stderr { border-left: 3px solid var(--bad) }
@media (max-width: 42rem) {
  header div, main { padding: .7rem .8rem } section { padding: .8rem }
  table.list thead { display: none }
  table.list tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line) }
  table.list tr:last-child { border: 0 }
  table.list td { display: flex; gap: .8rem; border: 0; padding: .1rem 0 }
  table.list td::before { content: attr(data-name); flex: 0 0 5.5rem; color: var(--soft) }
  table.list td:has(> span:empty) { display: none }
  table.list td > span { flex: 1; min-width: 0; overflow-wrap: anywhere }
  table.facts th { padding-right: .8rem; width: auto }
}
"""
# A part with focus, changed text or open details is not replaced.
SCRIPT = """
const typing = () => document.activeElement.tagName === 'BUTTON' ? null : document.activeElement;
const changed = field => field.options
  ? field.selectedIndex !== Math.max(0, [...field.options].findIndex(option => option.defaultSelected))
  : field.value !== field.defaultValue;
const used = part => part.contains(typing()) || part.querySelector('details[open]') ||
  [...part.querySelectorAll('textarea, select, input:not([type=hidden])')].some(changed);
async function refresh() {
  try {
    const answer = await fetch(location.href, {cache: 'no-store'});
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    for (const part of document.querySelectorAll('section[id]')) {
      const next = fresh.getElementById(part.id);
      if (next && next.outerHTML !== part.outerHTML && !used(part)) part.replaceWith(next);
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
# A steering wheel, as on the documentation; in the page itself, so that no request brings it.
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 64 64'%3E%3Cg fill='none'"
    " stroke='%237c68e0' stroke-width='5' stroke-linecap='round'%3E%3Ccircle cx='32' cy='32' r='17'/%3E%3Cpath"
    " d='M32 6v52M6 32h52M13.6 13.6l36.8 36.8M50.4 13.6L13.6 50.4'/%3E%3C/g%3E%3Ccircle cx='32' cy='32' r='6'"
    " fill='%237c68e0'/%3E%3C/svg%3E"
)
