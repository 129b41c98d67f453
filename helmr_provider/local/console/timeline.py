"""The timeline of a run: its newest events, with what it wrote in between."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.jsontext import as_object, loads, plain
from helmr_provider.local.state import events, logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row

_EVENTS = 500
_BYTES = 16 * 1024
_LOGS = ("log.stdout", "log.stderr")
_TONES = {
    "run.completed": "good",
    "run.failed": "bad",
    "run.execution_lost": "bad",
    "run.retry_scheduled": "wait",
    "run.cancelled": "wait",
    "run.expired": "wait",
}


def timeline(core: Core, run: Row) -> str:
    """Return the newest events of a run; consecutive output of one stream is one item."""
    skipped = max(run["last_event"] - _EVENTS, 0)
    written = _chunks(core, run, skipped)
    items: list[str] = []
    stream, texts, head = "", [b""], ""

    def flush() -> None:
        content = b"".join(texts)
        if stream:
            cut = "…" if len(content) > _BYTES else ""
            text = escape(cut + content[-_BYTES:].decode("utf-8", "replace").rstrip("\n"))
            items.append(f'{head}<span class="soft">{stream}</span><pre class="{stream}">{text}</pre></li>')

    for event in events.after(core, run["id"], skipped, _EVENTS):
        record = loads(event["record"])
        chunk = next(written, None) if event["kind"] in _LOGS else None
        if chunk is not None and chunk["stream"] == stream:
            texts.append(chunk["content"])
            continue
        flush()
        head = _head(event["kind"], record["at"])
        if chunk is not None:
            stream, texts = chunk["stream"], [chunk["content"]]
            continue
        stream = ""
        items.append(_item(run, event["kind"], head, record))
    flush()
    note = f'<p class="soft">The {skipped} oldest events are not shown.</p>' if skipped else ""
    return f'{note}<ol class="timeline">{"".join(items)}</ol>'


def failure(core: Core, run: Row) -> str:
    """Return why a failed run has failed, as HTML; nothing for any other run."""
    if run["status"] != "failed":
        return ""
    row = core.db.one(
        "SELECT record FROM events WHERE run_id = ? AND kind = 'run.failed' ORDER BY sequence DESC LIMIT 1", run["id"]
    )
    return "" if row is None else escape(_summary(loads(row["record"])["attributes"]))


def _chunks(core: Core, run: Row, skipped: int) -> Iterator[Row]:
    """Return the pieces of output whose events are shown: each has one event, in the same order."""
    before = core.db.one(
        "SELECT count(*) AS number FROM events WHERE run_id = ? AND sequence <= ? AND kind IN (?, ?)",
        run["id"],
        skipped,
        *_LOGS,
    )
    return iter(logs.after(core, run["id"], 0 if before is None else before["number"], _EVENTS))


def _head(kind: str, at: str) -> str:
    return f'<li class="{_TONES.get(kind, "")}"><time datetime="{at}" title="{at}">{at[11:19]}</time>'


def _item(run: Row, kind: str, head: str, record: dict[str, Any]) -> str:
    attributes: dict[str, Any] = {} if "redacted" in record["attributes"] else record["attributes"]
    text = json.dumps(plain(attributes, out_of_range=str), indent=2, ensure_ascii=False)
    more = f"<details><summary>attributes</summary><pre>{escape(text)}</pre></details>" if attributes else ""
    attempt = f' <span class="soft">attempt {record["attempt_number"]}</span>' if run["attempt_number"] > 1 else ""
    reason = "" if kind == "run.created" else _summary(attributes)
    summary = f' <span class="summary">{escape(reason)}</span>' if reason else ""
    return f"{head}{escape(kind)}{attempt}{summary}{more}</li>"


def _summary(attributes: dict[str, Any]) -> str:
    """Return the kind and the message of a failure, or a reason, in one line; nothing if there is none."""
    detail = as_object(attributes.get("detail")) or {}
    parts = (attributes.get("failure_kind"), detail.get("message"), attributes.get("reason"))
    return ": ".join(part for part in parts if isinstance(part, str) and part)
