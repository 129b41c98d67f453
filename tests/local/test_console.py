"""The pages that links to sessions and runs lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.local.scripted import Director
    from tests.local.wire import Wire


def _page(wire: Wire, path: str, status: int = 200) -> str:
    answer = wire.request("GET", path, headers={})
    assert answer.status == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


def test_a_session_leads_to_its_runs_and_a_run_shows_status_events_and_log(wire: Wire, director: Director) -> None:
    started = wire.start("scripted", external_id="order 7")
    session, run = started["session"]["id"], started["run"]["id"]

    async def write(ctx: Any) -> None:
        ctx.log("<b>bold</b> & loud")

    director.tell(run, write)
    director.end(run, lambda: {"answer": 42})
    wire.ended(run)
    page = _page(wire, f"/sessions/{session}")
    assert "order 7" in page
    assert f'href="/sessions/{session}/runs/{run}"' in page
    page = _page(wire, f"/sessions/{session}/runs/{run}")
    for shown in ("succeeded", "run.completed", "&lt;b&gt;bold&lt;/b&gt; &amp; loud", "42"):
        assert shown in page
    assert "<b>" not in page


def test_a_page_refreshes_itself_only_while_something_goes_on(wire: Wire, director: Director) -> None:
    started = wire.start("scripted")
    path = f"/sessions/{started['session']['id']}/runs/{started['run']['id']}"
    assert 'http-equiv="refresh"' in _page(wire, path)
    director.end(started["run"]["id"], lambda: None)
    wire.ended(started["run"]["id"])
    assert 'http-equiv="refresh"' not in _page(wire, path)


def test_what_is_not_there_is_a_page_too(wire: Wire) -> None:
    assert "no such session" in _page(wire, "/sessions/nope", 404)
    session = wire.start("scripted")["session"]["id"]
    assert "no such run" in _page(wire, f"/sessions/{session}/runs/nope", 404)
