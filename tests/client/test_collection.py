"""The garbage collector and signal handlers run code at any moment of a call, within the thread that makes it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import HelmrClient
from helmr_provider.client._http import _deadline, _reentrancy
from helmr_provider.client._http._deadline import DeadlineBackend
from helmr_provider.client._http._exchange import ConnectionOptions
from helmr_provider.client._internals import transport_of
from helmr_provider.client._waiting.stream_slots import StreamSlots
from helmr_provider.client._waiting.sync_waiter import _Shutdown
from tests.client.scripted_server import Reply, ScriptedServer, events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_PROGRAM = """
import gc, signal, sys
import httpcore
from helmr_provider.client import HelmrClient, HelmrError
from helmr_provider.client._internals import transport_of

class Cycle: pass

def abandon(thing):
    cycle = Cycle()
    cycle.itself, cycle.thing = cycle, thing

def used_client():
    client = HelmrClient(url=sys.argv[1], api_key="hlmr_sk_a")
    client.health()
    return client

def stream(client):
    return transport_of(client).events("getRunEvents", path={"run_id": "r"}, query={})

def begun(client):
    events = stream(client)
    next(events)
    return events

def at_each_allocation(prepare, act, most):
    gc.freeze()
    for allocation in range(1, most):
        gc.disable()
        gc.collect()
        prepare()
        gc.set_threshold(gc.get_count()[0] + allocation, 1, 1)
        gc.enable()
        act()

def within_the_lock_of_a_pool(act):
    assign = httpcore.ConnectionPool._assign_requests_to_connections
    def interrupted(pool):
        httpcore.ConnectionPool._assign_requests_to_connections = assign
        act()
        return assign(pool)
    httpcore.ConnectionPool._assign_requests_to_connections = interrupted
"""

_A_CLIENT_IS_COLLECTED = """
client = used_client()

def prepare():
    other = used_client()
    transport_of(other).http.close_when_collected()
    abandon(other)

at_each_allocation(prepare, client.health, 150)
"""

_A_STREAM_IS_COLLECTED_WHILE_ANOTHER_IS_OPENED = """
client = used_client()
at_each_allocation(lambda: abandon(begun(client)), lambda: begun(client).close(), 100)
"""

_A_STREAM_IS_COLLECTED_WITHIN_THE_LOCK = """
client = used_client()
gc.disable()
abandon(begun(client))
within_the_lock_of_a_pool(gc.collect)
opened = begun(client)
assert len(transport_of(client).http._responses) == 1
opened.close()
assert not transport_of(client).http._responses
assert [pool.connections for key, pool in transport_of(client).http._pools.items() if key[1]] == [[]]
"""

_MANY_STREAMS_ARE_COLLECTED_WITHIN_THE_LOCK = """
client = used_client()
gc.disable()
for _ in range(100):
    abandon(begun(client))
within_the_lock_of_a_pool(gc.collect)
sys.setrecursionlimit(200)
client.health()
assert not transport_of(client).http._responses
assert [pool.connections for key, pool in transport_of(client).http._pools.items() if key[1]] == [[]]
"""

_A_SIGNAL_HANDLER_CLOSES_THE_CLIENT = """
client = used_client()
pools = []

def close(*_):
    pools.extend(transport_of(client).http._pools.values())
    client.close()

signal.signal(signal.SIGUSR1, close)
within_the_lock_of_a_pool(lambda: signal.raise_signal(signal.SIGUSR1))
try:
    # The server has answered in full before the connection is closed.
    begun(client).close()
except HelmrError as error:
    assert "closed" in str(error), error
assert not transport_of(client).http._responses
assert [pool.connections for pool in pools] == [[], []]
"""

_A_SIGNAL_HANDLER_USES_THE_CLIENT = """
client = used_client()
answers = []
signal.signal(signal.SIGUSR1, lambda *_: answers.extend(client.health().status for _ in range(150)))
within_the_lock_of_a_pool(lambda: signal.raise_signal(signal.SIGUSR1))
assert client.health().status == "ok"
assert answers == ["ok"] * 150
"""

_A_SIGNAL_HANDLER_ABANDONS_THE_CALL = """
client = used_client()

class Abandoned(BaseException): pass

def abandon_the_call(*_):
    raise Abandoned

signal.signal(signal.SIGUSR1, abandon_the_call)
for _ in range(150):
    events = stream(client)
    within_the_lock_of_a_pool(lambda: signal.raise_signal(signal.SIGUSR1))
    try:
        next(events)
    except Abandoned:
        pass
    begun(client).close()
assert not transport_of(client).http._responses
assert len(transport_of(client).http._pools) == 2
"""


@pytest.fixture
def url() -> Iterator[str]:
    """Return the URL of a server with streams."""

    def answer(request: object) -> Reply:
        return events(":\n\n", ":\n\n") if "events" in str(request) else Reply(json={"status": "ok"})

    with ScriptedServer(answer=answer) as server:
        yield server.url


@pytest.mark.parametrize(
    "what",
    [
        _A_CLIENT_IS_COLLECTED,
        _A_STREAM_IS_COLLECTED_WHILE_ANOTHER_IS_OPENED,
        _A_STREAM_IS_COLLECTED_WITHIN_THE_LOCK,
        _MANY_STREAMS_ARE_COLLECTED_WITHIN_THE_LOCK,
        _A_SIGNAL_HANDLER_USES_THE_CLIENT,
        _A_SIGNAL_HANDLER_CLOSES_THE_CLIENT,
        _A_SIGNAL_HANDLER_ABANDONS_THE_CALL,
    ],
    ids=[
        "client",
        "stream",
        "stream_within_the_lock",
        "many_streams_within_the_lock",
        "signal",
        "signal_that_closes",
        "signal_that_raises",
    ],
)
def test_a_call_survives_what_interrupts_it(what: str, url: str) -> None:
    """In a process of its own, which may crash or stop for ever."""
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-W",
        "error",
        "-c",
        f"{_PROGRAM}{what}client.close(); print('survived')",
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


def _ends(function: Callable[[], object]) -> bool:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(240)
    return not thread.is_alive()


def test_a_stream_can_be_collected_while_a_slot_is_taken() -> None:
    slots = StreamSlots(2)
    abandoned = [slots.explicit()]
    abandoned[0].__enter__()

    def take() -> None:
        with slots._lock:
            abandoned.pop().__exit__(None, None, None)

    assert _ends(take)
    assert slots.held == 0


def test_a_client_can_be_closed_by_what_interrupts_the_opening_of_a_stream() -> None:
    shutdown = _Shutdown()

    class Response:
        interrupted = 0

        def interrupt(self) -> None:
            self.interrupted += 1
            if self.interrupted == 1:
                shutdown.close()

    response = Response()

    def open_a_stream() -> None:
        shutdown.close()
        with shutdown.reading() as opened:
            opened(response)  # type: ignore[arg-type]

    assert _ends(open_a_stream)
    assert response.interrupted == 2


def test_a_client_can_be_closed_by_what_interrupts_its_waits() -> None:
    """At each line that a pause runs in the module of locks and conditions."""

    def pause_interrupted_at(line: int) -> bool:
        shutdown, seen = _Shutdown(), 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal seen
            if frame.f_code.co_filename == threading.__file__ and event == "line":
                seen += 1
                if seen == line:
                    shutdown.close()
            return trace

        sys.settrace(trace)
        try:
            shutdown.sleep(0.01)
        finally:
            sys.settrace(None)
        assert shutdown.is_closed() is (seen >= line)
        return seen >= line

    def interrupt_at_each_line() -> None:
        line = 1
        while pause_interrupted_at(line):
            line += 1
        assert line > 5

    assert _ends(interrupt_at_each_line)


class _Abandoned(BaseException):
    pass


def test_a_signal_handler_that_raises_leaves_no_mark_on_its_thread(url: str) -> None:
    """At each call within a call: functions begin with a look for signals. The error is kept, as a console keeps it."""
    with HelmrClient(url=url, api_key="hlmr_sk_a") as client:
        client.health()

        def abandoned_at(call: int) -> _Abandoned | None:
            seen = 0

            def trace(frame: FrameType, *_: object) -> None:
                nonlocal seen
                # Not in httpcore, where an error at such a moment can keep the lock of a pool.
                if frame.f_code.co_filename in {contextlib.__file__, _reentrancy.__file__, _deadline.__file__}:
                    seen += 1
                    if seen == call:
                        raise _Abandoned

            # With a connection that is open. One that is being opened would be lost.
            client.health()
            before = sys.gettrace()
            sys.settrace(trace)
            try:
                client.health()
            except _Abandoned as error:
                return error
            finally:
                sys.settrace(before)
            return None

        call = 1
        while (error := abandoned_at(call)) is not None:
            assert _reentrancy.depth() == 0, error.__traceback__
            assert _deadline._thread.deadline == float("inf"), error.__traceback__
            call += 1
        # Each error may cost one of 100 connections.
        assert 20 < call < 100


def test_a_call_that_is_abandoned_while_its_answer_is_taken_gives_its_connection_back(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def abandon(*_: object) -> None:
        raise _Abandoned

    with HelmrClient(url=url, api_key="hlmr_sk_a") as client:
        with monkeypatch.context() as patch:
            patch.setattr("helmr_provider.client._http._blocking.ResponseBuilder", abandon)
            with pytest.raises(_Abandoned):
                client.health()
        (pool,) = transport_of(client).http._pools.values()
        assert pool.connections == []


def test_what_interrupts_the_first_call_shares_its_pool(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ConnectionOptions.pool_options
    with HelmrClient(url=url, api_key="hlmr_sk_a") as client:

        def interrupted(self: ConnectionOptions, *arguments: Any, **words: Any) -> dict[str, Any]:
            monkeypatch.undo()
            client.health()
            return options(self, *arguments, **words)

        monkeypatch.setattr(ConnectionOptions, "pool_options", interrupted)
        client.health()
        (pool,) = transport_of(client).http._pools.values()
        (connection,) = pool.connections
        assert "Request Count: 2" in connection.info()


def test_another_thread_can_connect_while_connections_are_interrupted(url: str) -> None:
    backend = DeadlineBackend()
    port = int(url.rpartition(":")[2])
    streams = [backend.connect_tcp("127.0.0.1", port) for _ in range(3)]

    def trace(frame: object, event: str, _: object) -> object:
        if event == "line" and "weak" in str(frame) and len(streams) < 100:
            streams.append(backend.connect_tcp("127.0.0.1", port))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        backend.interrupt()
    finally:
        sys.settrace(before)
    assert [stream.read(1) for stream in streams[:3]] == [b""] * 3
    for stream in streams:
        stream.close()


def test_a_child_process_leaves_the_streams_of_its_parent_alone(url: str) -> None:
    with HelmrClient(url=url, api_key="hlmr_sk_a") as client:
        http = transport_of(client).http
        stream = transport_of(client).events("getRunEvents", path={"run_id": "r"}, query={})
        next(stream)
        (pool,) = http._pools.values()
        (response,) = http._responses
        # As in a process that was forked while another thread of the parent held the lock.
        pool._optional_thread_lock._lock.acquire()
        http.forget()
        assert _ends(stream.close)
        assert len(pool.connections) == 1
        pool._optional_thread_lock._lock.release()
        response._response.close()
