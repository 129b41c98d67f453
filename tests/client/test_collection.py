"""The garbage collector and signal handlers run code at any moment of a call, within the thread that makes it."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from helmr_provider.client import HelmrClient
from helmr_provider.client._http._deadline import DeadlineBackend
from helmr_provider.client._internals import transport_of
from helmr_provider.client._waiting.stream_slots import StreamSlots
from helmr_provider.client._waiting.sync_waiter import _Shutdown
from tests.client.scripted_server import Reply, ScriptedServer, events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROGRAM = """
import gc, signal, sys
import httpcore
from helmr_provider.client import HelmrClient
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
        _A_SIGNAL_HANDLER_USES_THE_CLIENT,
        _A_SIGNAL_HANDLER_ABANDONS_THE_CALL,
    ],
    ids=["client", "stream", "stream_within_the_lock", "signal", "signal_that_raises"],
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
