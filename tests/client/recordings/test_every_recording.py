"""All recorded exchanges: each is held to a call of the client somewhere, or no call of the client can make it.

The modules named test_recorded_… hold most of them, operation by operation. This one has those that need more than one
answer or a view of another environment, the reasons of the rest, and the count.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import HelmrApiError, PayloadValidationError
from tests.client.recordings import run_calls, schedule_calls, stream_calls, workspace_calls
from tests.client.recordings.recorded import exchanges, recording, recordings, scoped_recordings
from tests.client.recordings.replay import reply_of
from tests.client.scripted_server import VARIANTS, Reply, ScriptedServer, drive

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.recordings.recorded import Recording


# Why no call of the client makes a request, beside what the other modules list.
NO_CALL: dict[str, set[int]] = {
    "the body is not one JSON object": {5, 13, 14, 15, 16, 47, 135, 375, 456},
    "no operation of the contract has this path and method": {9, 10, 11, 12, 471, 472, 481, 687, 688, 803, 859},
    "unknown member": {17, 18, 80, 81, 82, 130, 376, 455},
    "unknown query member": {443, 444, 446, 1086},
    "project and environment are in the path, and nowhere else": {21, 22, 23, 24, 25, 908},
    "the task is needed": {78},
    "the external id is needed": {118},
    "the client makes the object around a queue's name": {84},
    "null means left out, and is not sent": {99, 124, 427},
    "refused before it is sent: a ttl without a key": {101},
    "refused before it is sent: there is no such filter": {109},
    "refused before it is sent: an update that changes nothing": {125},
    "the client waits itself, and never asks the server to": {
        162,
        163,
        164,
        165,
        166,
        167,
        891,
        1067,
        1068,
        1079,
        1095,
    },
    "refused before it is sent: a number beyond doubles, or half a surrogate pair": {
        1028,
        1029,
        1108,
        1117,
        1118,
        1119,
    },
    "a filter is sent once": {1083, 1084, 1087},
    "a duration is sent as text": {424, 425, 428, 432, 433, 434},
    "the data of a completion are always sent": {454, 480},
}
ELSEWHERE = (stream_calls, workspace_calls, schedule_calls)
SCOPED = [(scope, found) for scope, found in scoped_recordings() if not found.name.startswith("908")]
CANCELLATIONS = recordings("cancelSession")
PENDING = "890"

both = pytest.mark.parametrize("variant", VARIANTS)


def names(found: list[Recording]) -> set[str]:
    return {each.name for each in found}


def number(name: str) -> int:
    return int(name.partition("-")[0])


def sent(found: Recording, variant: str, call: Callable[[Any], Any], *more: Reply) -> tuple[list[Any], Any]:
    """Make a call, answer it as recorded, and return the requests with what came of it."""
    result: Any = None
    with ScriptedServer(reply_of(found), *more) as wire:
        try:
            result = drive(variant, call, url=wire.url)
        except HelmrApiError as error:
            result = error
    for request in wire.requests[:1]:
        assert (request.method, request.path, request.query) == (
            found.request["method"],
            found.request["path"],
            found.query,
        )
        if found.endpoint.sends:
            assert request.json == found.body
    return wire.requests, result


@both
@pytest.mark.parametrize(("scope", "found"), SCOPED, ids=[found.name for _, found in SCOPED])
def test_a_view_of_another_environment_sends_its_requests_below_it(
    scope: dict[str, str], found: Recording, variant: str
) -> None:
    call = run_calls.public_call(found)
    if found.endpoint.operation.startswith("cancelSession"):
        call = cancellation(found)
    assert call is not None
    requests, result = sent(found, variant, lambda client: call(client.scoped(**scope)._single_shot()))
    assert requests
    if found.status >= 300:
        assert isinstance(result, HelmrApiError)
        assert (result.status, result.message) == (found.status, found.response["json"]["error"])
    else:
        answer = found.response["json"]
        assert run_calls.received(result) == answer.get("runs", answer)


def cancellation(found: Recording) -> Callable[[Any], Any]:
    session = run_calls.session_of(found)
    address = {"session": session["session"]} if "session" in session else session
    return lambda client: client.sessions.open(**address).cancel(**found.body)


@both
@pytest.mark.parametrize("found", CANCELLATIONS, ids=lambda found: found.name)
def test_a_cancelled_session_is_read_again_because_the_answer_is_older(found: Recording, variant: str) -> None:
    call = cancellation(found)
    if found.holds_nul:
        with pytest.raises(PayloadValidationError, match="NUL"):
            sent(found, variant, call)
        return
    after = found.response["json"] | {"status": "cancelled"}
    requests, result = sent(found, variant, lambda client: call(client._single_shot()), Reply(json=after))
    if found.status >= 300:
        assert (type(result), result.message) == (
            run_calls.ERRORS.get(found.status, HelmrApiError),
            found.response["json"]["error"],
        )
        assert len(requests) == 1
    else:
        assert [again.method for again in requests] == ["POST", "GET"]
        assert result.raw == after


@both
def test_a_start_that_is_pending_is_sent_again(variant: str) -> None:
    pending, started = recording(int(PENDING)), recording(60)
    call = run_calls.start_call(pending)
    assert call is not None
    requests, result = sent(pending, variant, call, reply_of(started))
    assert [each.json for each in requests] == [pending.body] * 2
    assert result.raw == started.response["json"]


def covered() -> dict[str, set[str]]:
    """Where each recording is held to a call."""
    found = {
        run_calls.__name__: names(run_calls.public_calls())
        | names(run_calls.streams("getRunEvents"))
        | names(run_calls.streams("getRunLogs")),
        __name__: names([found for _, found in SCOPED])
        | names(CANCELLATIONS)
        | {name for name in exchanges() if name.startswith(PENDING)},
    }
    for module in ELSEWHERE:
        found[module.__name__] = {each.name for each in module.FOUND if number(each.name) not in module.NO_CALL}
    found[workspace_calls.__name__] |= names(workspace_calls.STREAMS)
    return found


def reasons() -> dict[int, str]:
    given = {number: reason for reason, numbers in NO_CALL.items() for number in numbers}
    for module in ELSEWHERE:
        given |= module.NO_CALL
    return given


def test_every_recording_is_held_to_a_call_or_has_a_reason(report: Callable[[str], None]) -> None:
    held, excepted = covered(), reasons()
    everything = {number(name) for name in exchanges()}
    assert len(everything) == 884
    calls = {number(name) for each in held.values() for name in each}
    assert sum(len(each) for each in held.values()) == len(calls), "held twice"
    lines = [f"recorded exchanges: {len(everything)}, held to a call of the client: {len(calls)}"]
    lines += [f"  {len(each):>3} by {module.rpartition('.')[2]}" for module, each in held.items()]
    lines += ["without a call, because …"]
    for reason, count in Counter(excepted.values()).most_common():
        lines += [f"  {reason}: {', '.join(f'{n:03}' for n in sorted(excepted) if excepted[n] == reason)} ({count})"]
    report("\n".join(lines))
    assert not calls & excepted.keys()
    assert everything - calls - excepted.keys() == set()
    assert excepted.keys() <= everything
