"""The pages that links to sessions and runs lead to."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.support.polling import until

if TYPE_CHECKING:
    from tests.support.local.scripted_tasks import Director
    from tests.support.local.wire import Answer, Wire


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


def test_a_page_refreshes_itself_only_while_something_is_live(wire: Wire, director: Director) -> None:
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


def _workspace_with(wire: Wire, *command: str) -> str:
    """Create a workspace, run a command in it to its end, and return the workspace's page."""
    sandbox = wire.get("/api/sandboxes")["sandboxes"][0]["sandbox_id"]
    body = {"sandbox_id": sandbox, "external_id": "<b>ticket 7"}
    workspace = wire.post("/api/workspaces", body, 201)["workspace"]["id"]
    path = f"/api/workspaces/{workspace}/execs"
    exec_id = wire.post(path, {"command": list(command)}, 201)["exec"]["id"]
    until(lambda: "exited_at" in wire.get(f"{path}/{exec_id}")["exec"])
    return f"/workspaces/{workspace}"


def test_a_workspace_shows_what_was_run_in_it_and_how_that_ended(wire: Wire) -> None:
    path = _workspace_with(wire, "sh", "-c", "echo '<i>out</i>'; echo err >&2; exit 3")
    page = _page(wire, path)
    for shown in ("&lt;b&gt;ticket 7", "&lt;i&gt;out&lt;/i&gt;", "err", "code 3", "exited", "running"):
        assert shown in page
    assert "<i>" not in page
    assert "<b>ticket" not in page
    assert f'href="{path}"' in _page(wire, "/")
    assert "no such workspace" in _page(wire, "/workspaces/nope", 404)


def test_a_command_that_never_began_says_why(wire: Wire) -> None:
    assert "executable not found" in _page(wire, _workspace_with(wire, "no-such-program"))


@pytest.mark.parametrize(("command", "tone"), [("true", "good"), ("false", "bad")])
def test_a_command_is_coloured_by_its_exit_code(wire: Wire, command: str, tone: str) -> None:
    assert f'<span class="status {tone}">exited</span>' in _page(wire, _workspace_with(wire, command))


def test_of_a_long_output_the_end_is_shown(wire: Wire) -> None:
    page = _page(wire, _workspace_with(wire, "seq", "100000"))
    assert "\n100000\n" in page
    assert len(page) < 60_000


def test_no_secret_that_a_command_has_written_stands_on_the_page(wire: Wire) -> None:
    page = _page(wire, _workspace_with(wire, "echo", wire.server.api_key))
    assert wire.server.api_key not in page


def test_a_session_leads_to_its_workspace(wire: Wire) -> None:
    session = wire.start("scripted")["session"]
    assert f'href="/workspaces/{session["workspace_id"]}"' in _page(wire, f"/sessions/{session['id']}")


@pytest.fixture
def asking(wire: Wire, director: Director) -> tuple[str, str]:
    """The ids of a token, and of a run that waits for it and then returns what it was given."""
    run_id = wire.start("scripted")["run"]["id"]
    token_id = wire.post("/api/tokens", {}, 201)["id"]

    async def ask(ctx: Any) -> None:
        given = await ctx.wait_for_token(token_id)
        director.end(run_id, lambda: given)

    director.tell(run_id, ask)
    wire.until(run_id, "waiting")
    return token_id, run_id


def _post(wire: Wire, token_id: str, data: str, **changed: str) -> Answer:
    """Post a form as the browser that shows it does, but for what is changed."""
    proof = re.search(rf'tokens/{token_id}/.*?name="proof" value="([^"]+)"', _page(wire, "/"), re.DOTALL)
    assert proof is not None
    fields = urlencode({"proof": changed.pop("proof", proof[1]), "data": data})
    headers = {"Origin": wire.server.url, "Content-Type": "application/x-www-form-urlencoded", **changed}
    return wire.request("POST", f"/tokens/{token_id}/complete", raw=fields.encode(), headers=headers)


def test_the_form_completes_a_token_and_leads_to_its_run(wire: Wire, asking: tuple[str, str]) -> None:
    token_id, run_id = asking
    answer = _post(wire, token_id, '{"approved": "ja"}')
    assert (answer.status, answer.headers["location"].rpartition("/")[2]) == (303, run_id)
    assert wire.ended(run_id)["output"] == {"approved": "ja"}
    # A second click, in a window that still shows the form, changes nothing.
    assert "No token is pending" in _page(wire, "/")


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"proof": "form-guessed"},
    ],
)
def test_a_form_of_another_site_completes_nothing(wire: Wire, asking: tuple[str, str], changed: dict[str, str]) -> None:
    token_id, _ = asking
    assert _post(wire, token_id, "true", **changed).status == 403
    assert wire.get(f"/api/tokens/{token_id}")["status"] == "pending"


@pytest.mark.parametrize("text", ["{", "", "NaN"])
def test_what_is_no_json_is_said_and_kept_in_the_form(wire: Wire, asking: tuple[str, str], text: str) -> None:
    token_id, _ = asking
    answer = _post(wire, token_id, text)
    assert answer.status == 400
    assert "This is not JSON" in answer.text
    assert f">{text}</textarea>" in answer.text
    assert wire.get(f"/api/tokens/{token_id}")["status"] == "pending"


def test_a_token_that_is_gone_cannot_be_completed(wire: Wire, asking: tuple[str, str]) -> None:
    token_id, _ = asking
    page = _page(wire, "/")
    wire.post(f"/api/tokens/{token_id}/cancel", {})
    proof = re.findall(r'name="proof" value="([^"]+)"', page)[-1]
    fields = urlencode({"proof": proof, "data": "true"}).encode()
    answer = wire.request("POST", f"/tokens/{token_id}/complete", raw=fields, headers={"Origin": wire.server.url})
    assert (answer.status, "token cancelled" in answer.text) == (409, True)


def test_the_first_page_answers_only_to_a_browser_that_calls_this_machine_by_its_name(wire: Wire) -> None:
    assert wire.request("GET", "/", headers={"Host": "evil.example"}).status == 403
    assert wire.request("GET", "/", headers={}).status == 200


def test_no_secret_stands_on_a_page(wire: Wire, director: Director) -> None:
    token = wire.post("/api/tokens", {"metadata": {"key": wire.server.api_key}}, 201)
    started = wire.start("scripted", {"key": wire.server.api_key}, external_id=wire.server.api_key)
    run_id = started["run"]["id"]

    async def leak(ctx: Any) -> None:
        ctx.log(f"{wire.server.api_key} {token['callback_url']} {token['public_access_token']}")

    director.tell(run_id, leak)
    director.end(run_id, lambda: wire.server.api_key)
    wire.ended(run_id)
    for path in ("/", f"/sessions/{started['session']['id']}", f"/sessions/{started['session']['id']}/runs/{run_id}"):
        page = _page(wire, path)
        for secret in (wire.server.api_key, token["callback_url"], token["public_access_token"]):
            assert secret not in page


def test_text_of_others_is_never_markup(wire: Wire) -> None:
    started = wire.start("scripted", {"<i>": "</script>"}, external_id="<img src=x onerror=alert(1)>")
    path = f"/sessions/{started['session']['id']}"
    for page in (_page(wire, "/"), _page(wire, path), _page(wire, f"{path}/runs/{started['run']['id']}")):
        assert "<img src=x" not in page
        assert "<i>" not in page


def test_a_session_that_airflow_has_started_links_back_to_the_task_instance(wire: Wire) -> None:
    url = "https://airflow.example/dags/nightly/runs/manual__1/tasks/ask?try_number=1&a=<b>"
    stamp = {"v": 1, "dag_id": "nightly", "run_id": "manual__1", "task_id": "ask", "try_number": 1, "url": url}
    started = wire.start("scripted", metadata={"airflow": stamp})
    page = _page(wire, f"/sessions/{started['session']['id']}")
    assert f'<a href="{escape(url)}" rel="noreferrer">' in page
    assert "manual__1" in page


@pytest.mark.parametrize(
    "stamp", ["text", {"url": "javascript:alert(1)"}, {"url": 7}, {}, {"url": " https://a"}], ids=repr
)
def test_what_is_no_web_address_is_no_link(wire: Wire, stamp: Any) -> None:
    started = wire.start("scripted", metadata={"airflow": stamp})
    assert "noreferrer" not in _page(wire, f"/sessions/{started['session']['id']}")


def test_a_session_of_another_client_says_nothing_of_airflow(wire: Wire) -> None:
    started = wire.start("scripted", metadata={"owner": "dana"})
    assert "Airflow" not in _page(wire, f"/sessions/{started['session']['id']}")


def test_a_token_has_a_page_that_shows_what_it_is_for_and_how_it_ended(wire: Wire) -> None:
    metadata = {"approval": {"subject": "Publish <b>2.4</b>?", "options": ["Yes", "<i>No</i>"]}}
    token_id = wire.post("/api/tokens", {"metadata": metadata, "tags": ["release"]}, 201)["id"]
    page = _page(wire, f"/tokens/{token_id}")
    for shown in (
        "pending",
        "<h1>Publish &lt;b&gt;2.4&lt;/b&gt;?</h1>",
        "&lt;i&gt;No",
        "release",
        f'action="/tokens/{token_id}/complete"',
    ):
        assert shown in page
    assert "hlmr_" not in page
    assert 'http-equiv="refresh"' in page
    answer = _post(wire, token_id, '{"approved": true}')
    assert (answer.status, answer.headers["location"]) == (303, f"/tokens/{token_id}")
    page = _page(wire, f"/tokens/{token_id}")
    assert "completed" in page
    assert "approved" in page
    assert "<form" not in page
    assert "no such token" in _page(wire, "/tokens/nope", 404)


def test_runs_and_sessions_are_listed_by_name_with_filters(wire: Wire, director: Director) -> None:
    done = wire.start("scripted", external_id="finished one")["run"]["id"]
    director.end(done, lambda: None)
    wire.ended(done)
    live = wire.start("scripted", external_id="running one")["run"]["id"]
    wire.until(live, "running")
    both = _page(wire, "/runs")
    assert both.index("running one") < both.index("finished one")
    assert f'title="{done}"' in both
    assert f">…{done[-8:]}<" in both
    assert "finished one" not in _page(wire, "/runs?status=running")
    assert "running one" not in _page(wire, "/runs?status=succeeded&task=scripted")
    assert "There are no runs" in _page(wire, "/runs?task=another")
    assert "finished one" in _page(wire, "/sessions?status=open")
    assert "There are no sessions" in _page(wire, "/sessions?status=closed")


def test_long_lists_have_pages(wire: Wire) -> None:
    wire.request("POST", "/_local/worker/pause")
    for number in range(51):
        wire.start("scripted", external_id=f"number {number:02}")
    first = _page(wire, "/runs?status=queued")
    assert "number 50" in first
    assert "number 00" not in first
    older = re.findall(r'href="([^"]+)" rel="next"', first)
    assert older == ["/runs?status=queued&amp;page=2"]
    second = _page(wire, "/runs?status=queued&page=2")
    assert "number 00" in second
    assert "number 50" not in second
    assert 'rel="prev"' in second
    assert 'rel="next"' not in second
    for odd in ("0", "-1", "x", "9" * 30, "²"):
        assert _page(wire, "/sessions?" + urlencode({"page": odd}))


def test_every_list_has_a_page_and_says_when_it_is_empty(wire: Wire) -> None:
    for name in ("runs", "sessions", "tokens", "workspaces"):
        assert f"There are no {name}." in _page(wire, f"/{name}")
        assert wire.request("GET", f"/{name}", headers={"Host": "evil.example"}).status == 403
    assert "There are no schedules." in _page(wire, "/schedules?status=errored")


def test_tokens_are_listed_by_their_question_with_the_run_that_waits(wire: Wire, asking: tuple[str, str]) -> None:
    token_id, run_id = asking
    body = {"metadata": {"approval": {"subject": "Publish <b>2.4</b>?"}}, "tags": ["release"]}
    named = wire.post("/api/tokens", body, 201)["id"]
    page = _page(wire, "/tokens?status=pending")
    assert f'href="/tokens/{named}">Publish &lt;b&gt;2.4&lt;/b&gt;?</a>' in page
    assert page.index(named) < page.index(token_id)
    assert f"/runs/{run_id}" in page
    assert "There are no tokens" in _page(wire, "/tokens?status=completed")


def test_the_first_page_shows_the_awaited_tokens_first_and_leads_to_the_others(
    wire: Wire, asking: tuple[str, str]
) -> None:
    for _ in range(4):
        wire.post("/api/tokens", {}, 201)
    page = _page(wire, "/")
    forms = re.findall(r'action="/tokens/([^/]+)/complete"', page)
    assert (len(forms), forms[0]) == (3, asking[0])
    assert '<a href="/tokens?status=pending">All 5 pending tokens</a>' in page


def test_a_token_of_airflow_names_the_task_that_asks(wire: Wire) -> None:
    stamp = {"v": 1, "dag_id": "release_<b>", "run_id": "manual__1", "task_id": "approval", "try_number": 1}
    wire.post("/api/tokens", {"metadata": {"airflow": stamp}}, 201)
    page = _page(wire, "/")
    assert "Waiting: Airflow task release_&lt;b&gt;.approval" in page
    assert "No run waits for it." not in page


def test_a_failed_run_says_why_and_a_retried_one_does_not(examples: Wire) -> None:
    failed = examples.start("fail", {"message": "no <luck>"})
    examples.ended(failed["run"]["id"])
    path = f"/sessions/{failed['session']['id']}/runs/{failed['run']['id']}"
    assert '<th scope="row">Failure</th><td>worker_failed: no &lt;luck&gt;</td>' in _page(examples, path)
    retried = examples.start("retry-once")
    examples.ended(retried["run"]["id"])
    page = _page(examples, f"/sessions/{retried['session']['id']}/runs/{retried['run']['id']}")
    assert '<th scope="row">Failure</th>' not in page
    assert "(attempt 2)" in page


def test_the_timeline_joins_output_and_keeps_the_newest_events(wire: Wire, director: Director) -> None:
    started = wire.start("scripted")
    run = started["run"]["id"]

    async def writes(ctx: Any) -> None:
        for number in range(251):
            ctx.log(f"out {number}.")
            ctx.stderr(f"err {number}.\n")
        ctx.log("last one")
        ctx.log("last two")

    director.tell(run, writes)
    director.end(run, lambda: None)
    wire.ended(run)
    page = _page(wire, f"/sessions/{started['session']['id']}/runs/{run}")
    timeline = page[page.index('<section id="timeline"') : page.index('<section id="log"')]
    assert "The 6 oldest events are not shown." in timeline
    assert "out 1." not in timeline
    assert '<pre class="stdout">out 3.</pre>' in timeline
    assert '<pre class="stdout">last one\nlast two</pre>' in timeline
    assert "run.completed" in timeline


def test_a_run_shows_its_phases_and_its_output_within_the_timeline(wire: Wire, director: Director) -> None:
    started = wire.start("scripted")
    run = started["run"]["id"]

    async def writes(ctx: Any) -> None:
        ctx.log("first line")
        ctx.stderr("second line\n")

    director.tell(run, writes)
    director.tell(run, lambda ctx: ctx.sleep(0.05))
    director.end(run, lambda: None)
    wire.ended(run)
    page = _page(wire, f"/sessions/{started['session']['id']}/runs/{run}")
    legend = re.findall(r'<li class="(queued|running|waiting)">', page)
    assert legend == ["queued", "running", "waiting", "queued", "running"]
    timeline = page[page.index('<section id="timeline"') :]
    order = [timeline.index(text) for text in ("run.created", "first line", "second line", "run.completed")]
    assert order == sorted(order)
    assert '<pre class="stderr">second line</pre>' in timeline
