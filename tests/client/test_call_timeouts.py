"""``timeout=`` of a single call: every method that sends has it, passes it on, and ends within it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import (
    AsyncHelmrClient,
    AsyncScheduleHandle,
    AsyncTokenHandle,
    HelmrCallTimeoutError,
    HelmrClient,
    HelmrConfigError,
    PublicScope,
    ScheduleHandle,
    TokenHandle,
)
from helmr_provider.client._http import AsyncHttp, Http
from tests.client.run_json import run_json, snapshot
from tests.client.scripted_server import API_KEY, VARIANTS, Reply, ScriptedServer, drive, events
from tests.client.trees import MODULES, classes, public_members

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client.scripted_server import ReceivedRequest

both = pytest.mark.parametrize("variant", VARIANTS)

# Methods whose ``timeout`` is another one, or that have none, and why.
_WAIT = "timeout is the length of the wait"
_FOLLOWED = "a stream may stay open for as long as its run or command"
_SENDS_NOTHING = "sends nothing"
EXCEPTIONS = {
    "Runs.wait": _WAIT,
    "Runs.wait_many": _WAIT,
    "Sessions.start_and_wait": _WAIT,
    "ExecHandle.wait": _WAIT,
    "PtyHandle.wait_until_open": _WAIT,
    "Tokens.create": "timeout is how long the token lives",
    "RunEvents.subscribe": _FOLLOWED,
    "RunEvents.follow_records": _FOLLOWED,
    "RunLogs.follow": _FOLLOWED,
    "RunLogs.stream": _FOLLOWED,
    "ByteStream.stream": _FOLLOWED,
    "HelmrClient.close": _SENDS_NOTHING,
    "HelmrClient.scoped": _SENDS_NOTHING,
    "HelmrClient.with_options": _SENDS_NOTHING,
    "Sessions.open": _SENDS_NOTHING,
    "SessionHandle.input": _SENDS_NOTHING,
    "SessionHandle.output": _SENDS_NOTHING,
    "Workspaces.open": _SENDS_NOTHING,
    "WorkspaceExecs.open": _SENDS_NOTHING,
    "WorkspacePtys.open": _SENDS_NOTHING,
}

# A value for each parameter that some method requires.
ARGUMENTS: dict[str, Any] = {
    "cols": 1,
    "command": ["true"],
    "cron": "* * * * *",
    "data": b"x",
    "deduplication_key": "k",
    "deployment": "d",
    "items": ["x"],
    "name": "n",
    "offset": 0,
    "path": "p",
    "rows": 1,
    "run": "r",
    "sandbox_id": "s",
    "schedule": "s",
    "scope": PublicScope.input("s", "messages"),
    "session": "s",
    "target": "t",
    "task": "t",
    "task_id": "t",
    "token": "t",
    "url": "https://helmr.example/api/v1/tokens/t/callback/x",
    "value": "v",
    "version_id": "v",
    "workspace": "w",
}
JSON_DATA = {"send", "append", "complete", "complete_callback"}


def methods() -> Iterator[tuple[str, str, Any]]:
    """Yield each public method of the client: its class, its name, and its function."""
    for module in MODULES:
        if module == "transport":
            continue
        for owner, found in classes("_sync", module).items():
            for each in (*found.__mro__[1:-1], found):
                if not each.__module__.startswith("helmr_provider.client._sync"):
                    continue
                for name, member in public_members(each).items():
                    # pydantic adds model_post_init to handles.
                    if inspect.isfunction(member) and not name.startswith(("_", "model_")):
                        yield owner, name, member


def takes_timeout(method: Any) -> bool:
    parameter = inspect.signature(method).parameters.get("timeout")
    return parameter is not None and parameter.kind is parameter.KEYWORD_ONLY and parameter.default is None


LIMITED = {f"{owner}.{name}" for owner, name, _ in methods()} - EXCEPTIONS.keys()


def test_every_method_takes_a_timeout_or_has_a_reason_not_to() -> None:
    found = {f"{owner}.{name}": method for owner, name, method in methods()}
    assert EXCEPTIONS.keys() <= found.keys()
    assert len(found) - len(EXCEPTIONS) >= 70
    assert [name for name in LIMITED if not takes_timeout(found[name])] == []
    for name, reason in EXCEPTIONS.items():
        has_another = reason in {_WAIT, EXCEPTIONS["Tokens.create"]}
        assert ("with_options(timeout=)" in found[name].__doc__) == has_another, name
        assert ("timeout" in inspect.signature(found[name]).parameters) == (
            has_another or name == "HelmrClient.with_options"
        ), name


def namespaces(client: Any) -> list[Any]:
    """Return an object of each class with methods that send."""
    session, workspace = client.sessions.open("s"), client.workspaces.open("w")
    command, terminal = workspace.execs.open("e"), workspace.pty.open("p")
    token, schedule = (
        (AsyncTokenHandle, AsyncScheduleHandle)
        if isinstance(client, AsyncHelmrClient)
        else (TokenHandle, ScheduleHandle)
    )
    return [
        client,
        *(client.sessions, session, session.input("messages"), session.output("progress")),
        *(client.runs, client.runs.events, client.runs.logs),
        *(client.tokens, token.model_construct(id="t")._bound_to(client.tokens)),
        *(client.schedules, schedule.model_construct(id="s")._bound_to(client.schedules)),
        *(client.auth, client.tasks, client.sandboxes, client.deployments, client.secrets),
        *(client.workspaces, workspace, workspace.files, workspace.versions, workspace.execs, workspace.pty),
        *(command, command.stdin, command.stdout, terminal),
    ]


def call(owner: Any, name: str, timeout: Any) -> Any:
    """Call a method with a timeout and a value for each parameter that it requires."""
    method = getattr(owner, name)
    required = [
        parameter.name
        for parameter in inspect.signature(method).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    options = {parameter: ARGUMENTS[parameter] for parameter in required}
    if name in JSON_DATA:
        options["data"] = "x"
    known = inspect.signature(method).parameters
    if name == "update" and "metadata" in known:
        options["metadata"] = {}
    if "session" in known:
        options["session"] = "s"
    return method(**options, timeout=timeout)


class SentError(Exception):
    """Raised instead of sending."""


@both
def test_every_method_passes_its_timeout_on(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[Any] = []

    def record(request: Any) -> Any:
        limits.append(request.limit)
        raise SentError

    async def record_later(_: Any, request: Any, __: float) -> Any:
        record(request)

    monkeypatch.setattr("helmr_provider.client._http.Http.send", lambda _, request, __: record(request))
    monkeypatch.setattr("helmr_provider.client._http.AsyncHttp.send", record_later)
    options: dict[str, Any] = {"url": "https://helmr.example", "api_key": API_KEY}
    reached: set[str] = set()

    async def drain(result: Any) -> None:
        if inspect.isasyncgen(result):
            await anext(result)
        else:
            await result

    def main() -> None:
        client = HelmrClient(**options) if variant == "blocking" else AsyncHelmrClient(**options)
        for owner in namespaces(client):
            kind = type(owner).__name__.removeprefix("Async")
            for qualified in sorted(LIMITED):
                name = qualified.removeprefix(f"{kind}.")
                if name == qualified:
                    continue
                reached.add(qualified)
                limits.clear()
                with contextlib.suppress(SentError):
                    result = call(owner, name, 7.5)
                    if variant != "blocking":
                        asyncio.run(drain(result))
                    elif inspect.isgenerator(result):
                        next(result)
                assert limits == [7.5], qualified

    main()
    assert reached == LIMITED


@both
def test_a_call_without_an_answer_ends_within_its_own_timeout(variant: str) -> None:
    with ScriptedServer(Reply(body=b"{", end="silent")) as wire:
        timeouts: list[Any] = [0.05, timedelta(milliseconds=50), "50ms"]
        for timeout in timeouts:

            def retrieve(client: Any, timeout: Any = timeout) -> Any:
                return client.runs.retrieve("r", timeout=timeout)

            with pytest.raises(HelmrCallTimeoutError, match=r"within 0\.05 s") as caught:
                drive(variant, retrieve, url=wire.url)
            assert caught.value.operation == "getRun"
            assert isinstance(caught.value, TimeoutError)
    # A busy machine may not even send a request in that time.
    assert len(wire.requests) <= 3


@both
def test_starts_sends_and_handles_end_within_their_own_timeouts(variant: str) -> None:
    calls: list[Any] = [
        lambda client: client.sessions.start("t", {"a": 1}, external_id="x", timeout=0.05),
        lambda client: client.sessions.open("s").input("messages").send("x", timeout=0.05),
        lambda client: client.sessions.open("s").cancel(timeout=0.05),
        lambda client: client.workspaces.open("w").files.iter(timeout=0.05),
        lambda client: client.deployments.promote("d", timeout=0.05),
    ]
    with ScriptedServer(Reply(body=b"{", end="silent")) as wire:
        for each in calls:
            with pytest.raises(HelmrCallTimeoutError):
                drive(variant, each, url=wire.url)
    assert len(wire.requests) <= len(calls)


@both
def test_the_timeout_holds_for_all_repeats_of_a_call(variant: str) -> None:
    with (
        ScriptedServer(Reply(503, json={"error": "busy"}, headers={"retry-after": "9"})) as wire,
        pytest.raises(Exception, match="busy"),
    ):
        drive(variant, lambda client: client.runs.retrieve("r", timeout=8.5), url=wire.url)
    # The pause that the server asks for would pass the limit.
    assert len(wire.requests) == 1


@both
def test_a_call_may_take_longer_than_the_client_and_its_view_allow(variant: str) -> None:
    def answer(_: ReceivedRequest) -> Reply:
        time.sleep(0.3)
        return snapshot("r", "running")

    with ScriptedServer(answer=answer) as wire:
        url, short = wire.url, 0.05
        assert drive(variant, lambda c: c.runs.retrieve("r", timeout=60), url=url, timeout=short).id == "r"
        found = drive(variant, lambda c: c.with_options(timeout=short).runs.retrieve("r", timeout="1m"), url=url)
        assert found.id == "r"
        with pytest.raises(HelmrCallTimeoutError):
            drive(variant, lambda c: c.runs.retrieve("r", timeout=None), url=url, timeout=short)


@both
def test_each_request_of_an_iterator_has_the_timeout(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    for kind in (Http, AsyncHttp):
        send = kind.send

        def counted(self: Any, request: Any, deadline: float, send: Any = send) -> Any:
            limits.append(request.limit)
            return send(self, request, deadline)

        monkeypatch.setattr(kind, "send", counted)
    record = {"id": "1", "run_id": "r", "kind": "log", "message": "m", "at": "2026-11-28T12:00:01Z", "attributes": {}}
    pages = Reply(json={"events": [record], "next_cursor": "1"}), Reply(json={"events": []})
    with ScriptedServer(*pages) as wire:
        drive(variant, lambda client: client.runs.events.list("r", timeout=75), url=wire.url)
    assert limits == [75, 75]


@both
@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "soon", [5], True])
def test_a_timeout_that_is_none_is_refused_before_anything_is_sent(timeout: Any, variant: str) -> None:
    with ScriptedServer(snapshot("r", "running")) as wire, pytest.raises(HelmrConfigError, match="timeout"):
        drive(variant, lambda client: client.runs.retrieve("r", timeout=timeout), url=wire.url)
    assert wire.requests == []


@both
def test_a_wait_keeps_its_own_timeout_and_a_view_limits_its_calls(variant: str) -> None:
    requests: list[str] = []

    def answer(request: ReceivedRequest) -> Reply:
        requests.append(request.path)
        return events() if request.query.get("follow") else Reply(json=run_json("r", "succeeded"))

    with ScriptedServer(answer=answer) as wire:
        found = drive(variant, lambda c: c.with_options(timeout=30).runs.wait("r", timeout="1h"), url=wire.url)
    assert found.status == "succeeded"
    assert requests
