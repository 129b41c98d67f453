"""Recordings of 28 November 2026: turns, commands beside runs, stops, NUL characters, numbers, lists, retries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local import TaskFailure
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.local import TaskContext
    from tests.support.local.scenario import Scenario


def turns(scenario: Scenario) -> None:
    """Follow-up turns: the wait of each turn gets the stream's first record."""
    scenario.play(930)
    for turn, (sent, read) in enumerate(((931, 932), (933, 934), (935, 936))):
        if turn == 0:
            run = _run(scenario, 930)
            scenario.director.tell(run, _echoes_its_input)
            scenario.wire.until(run, "waiting")
            scenario.play(sent)
        else:
            scenario.play(sent)
            run = scenario.newest_run()
            scenario.replay.bind(_path_id(scenario, read), run)
            scenario.director.tell(run, _echoes_its_input)
        until(lambda: len(scenario.director.results(scenario.newest_run())) == 1)
        scenario.end(run, {"turn": turn, "message": "first"})
        scenario.play(read)
    scenario.play(937, 938, 939)


def commands_beside_runs(scenario: Scenario) -> None:
    """A command beside a waiting run, and what its stop does to the run."""
    scenario.play(940)
    run = _waits_for_input(scenario, 940)
    scenario.play(941)
    scenario.server.pause_workspaces()
    scenario.play(942)
    scenario.server.pause_workspaces(None)
    workspace = _workspace(scenario, 942)
    _exec_ended(scenario, 942)
    scenario.play(943, 944)
    _stopped(scenario, workspace)
    scenario.play(945, 946, 947)
    scenario.wire.until(run, "failed")
    scenario.play(948, 949, 950)


def untouched_streams(scenario: Scenario) -> None:
    """Public access tokens on streams whose rows do not exist yet."""
    scenario.server.pause_worker()
    scenario.play(951, 952)
    secret = scenario.recorded(952)["response"]["json"]["public_access_token"]
    scenario.replay.public_token = scenario.replay.known(secret)
    scenario.play(*range(953, 961))


def stopping_workspaces(scenario: Scenario) -> None:
    """What a workspace that is being stopped refuses."""
    scenario.play(961)
    workspace = _live(scenario, 962)
    scenario.play(962)
    _exec_ended(scenario, 962)
    scenario.server.pause_workspaces()
    scenario.play(*range(963, 967))
    scenario.server.pause_workspaces(None)
    _stopped(scenario, workspace)
    scenario.server.pause_worker()
    scenario.play(967, 968)
    _live(scenario, 969)
    scenario.server.pause_workspaces()
    scenario.play(969, 970)
    scenario.server.pause_workspaces(None)
    scenario.play(971)
    workspace = _live(scenario, 972)
    scenario.play(972)
    until(lambda: _exec(scenario, 972)["state"] == "running")
    scenario.server.pause_workspaces()
    scenario.play(*range(973, 977))
    scenario.server.pause_workspaces(None)
    _stopped(scenario, workspace)
    scenario.server.pause_workspaces()
    scenario.play(978)


def stale_workspaces(scenario: Scenario) -> None:
    """A run, then a command, then a stop in one live workspace."""
    scenario.play(979)
    scenario.server.pause_workspaces()
    scenario.play(980)
    scenario.server.pause_workspaces(None)
    _live(scenario, 981)
    scenario.play(981, 982)
    run = _run(scenario, 982)
    scenario.do(run, lambda ctx: ctx.workspace())
    scenario.end(run, {"x": 1})
    scenario.play(983, 984, 985, 986)
    _exec_ended(scenario, 986)
    scenario.play(987, 988)
    until(lambda: _exec(scenario, 988)["state"] == "running")
    scenario.play(989, 990)
    scenario.wire.until(_run(scenario, 989), "failed")
    scenario.play(*range(991, 998))


def nul_characters(scenario: Scenario) -> None:
    """NUL characters and halves of surrogate pairs in bodies and queries."""
    scenario.server.pause_worker()
    scenario.play(998)
    token = scenario.wire.post("/api/tokens", {}, 201)
    scenario.replay.bind(_path_id(scenario, 999), token["id"])
    scenario.play(999, 1000)
    started = scenario.wire.start("wait-for-input")
    scenario.replay.bind(_path_id(scenario, 1001), started["session"]["id"])
    scenario.replay.bind(_path_id(scenario, 1008), started["run"]["id"])
    scenario.play(*range(1001, 1017), *range(1091, 1101))
    secret = scenario.recorded(1100)["response"]["json"]["public_access_token"]
    scenario.replay.public_token = scenario.replay.known(secret)
    scenario.play(*range(1101, 1110))


def numbers(scenario: Scenario) -> None:
    """Numbers at the edges: payloads, records, token data and metadata."""
    scenario.play(1017)
    run = _run(scenario, 1017)
    scenario.play(1018, 1019, 1020)
    scenario.director.tell(run, lambda ctx: ctx.receive("messages"))
    until(lambda: len(scenario.director.results(run)) == 1)
    scenario.end(run, {"turn": 0, "message": scenario.director.results(run)[0].data})
    scenario.play(1021, 1022, 1023)
    for first in (1024, 1030):
        scenario.replay.bind(_path_id(scenario, first), scenario.wire.post("/api/tokens", {}, 201)["id"])
    scenario.play(*range(1024, 1034))
    scenario.server.pause_worker()
    scenario.play(*range(1110, 1123))


def lists(scenario: Scenario) -> None:
    """The order of lists, and what their filters ignore."""
    scenario.server.pause_worker()
    scenario.play(1034, 1035, 1036, 1037)
    scenario.server.resume_worker()
    for number in (1034, 1035, 1036):
        scenario.end(_run(scenario, number), {"seconds": 1})
    scenario.play(1038)
    scenario.server.pause_worker()
    scenario.play(1039, 1040)
    for _ in range(3):
        scenario.wire.start("work")
    scenario.play(1041, masked=True)
    scenario.play(1042)
    _end_all(scenario)
    scenario.server.resume_worker()
    scenario.play(1081)
    run = _run(scenario, 1081)
    scenario.wire.until(run, "running")
    scenario.server.pause_worker()
    scenario.play(*range(1082, 1088))
    scenario.end(run)
    scenario.play(1088, 1089, 1090)


def stream_waits(scenario: Scenario) -> None:
    """The whole of what a stream wait gives, and a command beside a waiting run without a stop."""
    scenario.play(1043)
    run = _waits_for_input(scenario, 1043)
    scenario.play(1044)
    until(lambda: len(scenario.director.results(run)) == 2)
    scenario.do(run, lambda ctx: ctx.receive("messages", after_sequence=0), lambda ctx: ctx.peek("messages"))
    received, again, record = scenario.director.results(run)[1:]
    scenario.end(
        run,
        {
            "peek": {"record": _members(record)},
            "resume_kind": "completed",
            "resume_payload": _members(received),
            "wait_on_a_record_that_is_there": {"resolution": _members(again), "resolution_kind": "completed"},
        },
    )
    scenario.play(1045, 1046, 1047)
    run = _waits_for_input(scenario, 1047)
    scenario.play(1048)
    workspace = _workspace(scenario, 1048)
    _exec_ended(scenario, 1048)
    scenario.play(1049)
    until(lambda: len(scenario.director.results(run)) == 2)
    scenario.end(run, {"turn": 0, "message": "go"})
    scenario.play(1050, 1051)
    _stopped(scenario, workspace)
    scenario.play(1052)


def stops_under_runs(scenario: Scenario) -> None:
    """A stop while a run executes: the worker lets it end first, or ends the workspace under it."""
    for numbers_, end_it in (((1053, 1054, 1055), True), ((1059, 1060, 1061), False)):
        start, stop, read = numbers_
        scenario.play(start)
        run = _run(scenario, start)
        scenario.do(run, _logs, _logs)
        scenario.server.pause_workspaces()
        scenario.play(stop, read)
        scenario.do(run, lambda ctx: ctx.set_metadata(a=1), _logs)
        if end_it:
            scenario.do(run, _fills_its_workspace)
            scenario.end(run, scenario.recorded(1056)["response"]["json"]["output"])
            scenario.play(1056)
            scenario.server.pause_workspaces(None)
            _stopped(scenario, _workspace_of(scenario, run))
            scenario.play(1057, 1058)
        else:
            scenario.server.pause_workspaces(None)
            _stopped(scenario, _workspace_of(scenario, run))
            scenario.play(1062, 1063)
            scenario.end(run)
            scenario.play(1064, 1065, 1066)


def retries(scenario: Scenario) -> None:
    """Between the attempts of a retried run."""
    scenario.play(1067, during=_fail_next(scenario, lambda: {"attempt": 2}))
    scenario.play(1068, during=_fail_next(scenario, _fails("the second attempt fails too")))
    scenario.play(1069)
    scenario.server.set_clock("manual")
    scenario.play(1070)
    run = _run(scenario, 1070)
    scenario.wire.until(run, "running")
    scenario.fail(run, TaskFailure("the first attempt fails"))
    until(lambda: scenario.wire.get(f"/api/runs/{run}")["attempt_number"] == 2)
    scenario.play(*range(1071, 1079))

    def ends() -> None:
        until(lambda: any(entry.operation == "startSessionAndWait" for entry in scenario.server.journal[-3:]))
        scenario.server.advance(4)
        scenario.end(run, {"attempt": 2})

    scenario.play(1079, during=ends)
    scenario.play(1080)


def _fail_next(scenario: Scenario, ending: Callable[[], Any]) -> Callable[[], None]:
    """Return what fails the first attempt of the next run and ends its second one."""
    known = len(scenario.wire.get("/api/runs", status="all")["runs"])

    def fail() -> None:
        until(lambda: len(scenario.wire.get("/api/runs", status="all")["runs"]) > known)
        run = scenario.newest_run()
        scenario.do(run, _complains)
        scenario.fail(run, TaskFailure("the first attempt fails"))
        until(lambda: bool(scenario.wire.get(f"/api/runs/{run}")["attempt_number"] == 2))
        scenario.director.end(run, ending)
        scenario.wire.ended(run)

    return fail


def _fails(message: str) -> Callable[[], Any]:
    def fail() -> Any:
        raise TaskFailure(message)

    return fail


async def _echoes_its_input(ctx: TaskContext) -> None:
    received = await ctx.receive("messages")
    await ctx.publish("messages", received.data)


def _members(value: Any) -> dict[str, Any]:
    return {name: member for name, member in vars(value).items() if member is not None}


async def _complains(ctx: TaskContext) -> None:
    if ctx.attempt_number == 1:
        ctx.stderr("no\n")


async def _logs(ctx: TaskContext) -> None:
    if ctx.attempt_number == 1:
        ctx.log("working")


def _waits_for_input(scenario: Scenario, number: int) -> str:
    run = _run(scenario, number)
    scenario.do(run, _logs)
    scenario.director.tell(run, lambda ctx: ctx.receive("messages"))
    scenario.wire.until(run, "waiting")
    return run


async def _fills_its_workspace(ctx: TaskContext) -> None:
    directory = await ctx.workspace()
    for number in range(12):
        (directory / f"file-{number}").write_bytes(b"x" * 700)


def _run(scenario: Scenario, number: int) -> str:
    """Return the id of the run that a recorded start has made."""
    return scenario.replay.known(scenario.recorded(number)["response"]["json"]["run"]["id"])


def _path_id(scenario: Scenario, number: int) -> str:
    path: str = scenario.recorded(number)["request"]["path"]
    return path.split("/")[3]


def _workspace(scenario: Scenario, number: int) -> str:
    return scenario.replay.known(_path_id(scenario, number))


def _workspace_of(scenario: Scenario, run: str) -> str:
    session = scenario.wire.get(f"/api/runs/{run}")["session_id"]
    return str(scenario.wire.get(f"/api/sessions/{session}")["workspace_id"])


def _live(scenario: Scenario, number: int) -> str:
    """Make the workspace of a recorded path live and wait until it runs."""
    workspace = _workspace(scenario, number)
    path = f"/api/workspaces/{workspace}/connect"
    until(lambda: scenario.wire.request("POST", path, {}).json["state"] == "running")
    return workspace


def _stopped(scenario: Scenario, workspace: str) -> None:
    path = f"/api/workspaces/{workspace}/stop"
    until(lambda: scenario.wire.request("POST", path, {}).json["state"] == "no_active_materialization")


def _exec(scenario: Scenario, number: int) -> Any:
    recorded = scenario.recorded(number)["response"]["json"]["exec"]["id"]
    return scenario.wire.get(f"/api/workspaces/{_workspace(scenario, number)}/execs/{scenario.replay.known(recorded)}")[
        "exec"
    ]


def _exec_ended(scenario: Scenario, number: int) -> None:
    until(lambda: _exec(scenario, number)["state"] == "exited")


def _end_all(scenario: Scenario) -> None:
    for run in scenario.wire.get("/api/runs")["runs"]:
        scenario.wire.post(f"/api/runs/{run['id']}/cancel", {})
