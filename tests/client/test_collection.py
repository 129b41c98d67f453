"""The garbage collector finds clients and calls that nobody has closed, at any moment of another call."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys

import pytest

from helmr_provider.client import HelmrClient, HelmrConnectionError
from helmr_provider.client._http._exchange import quiet
from helmr_provider.client._internals import single_shot, transport_of

# A client that is collected at one of the allocations with which an exchange of another begins and ends.
_COLLECTED_IN_AN_EXCHANGE = """
import gc
from helmr_provider.client import HelmrClient, HelmrConnectionError
from helmr_provider.client._http._exchange import quiet
from helmr_provider.client._internals import single_shot, transport_of

class Cycle: pass

def used_client():
    client = HelmrClient(url="http://127.0.0.1:9", api_key="hlmr_sk_a")
    try:
        single_shot(client).runs.retrieve("r")
    except HelmrConnectionError:
        pass
    assert transport_of(client).http._pools
    return client

# What is there already need not be searched 580 times.
used_client()
gc.collect()
gc.freeze()
for allocation in list(range(1, 30)) * 20:
    gc.disable()
    gc.collect()
    cycle = Cycle()
    cycle.itself, cycle.client = cycle, used_client()
    transport_of(cycle.client).http.close_when_collected()
    del cycle
    gc.set_threshold(gc.get_count()[0] + allocation, 1, 1)
    gc.enable()
    with quiet():
        pass
    with quiet():
        pass
print("survived")
"""

SECRET = "hlmr_pat_verysecret"


def test_a_client_can_be_collected_while_an_exchange_of_another_begins_or_ends() -> None:
    command = [sys.executable, "-c", _COLLECTED_IN_AN_EXCHANGE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr


def _log_a_secret() -> None:
    logging.getLogger("httpcore.http11").debug("send_request_headers.started %s", SECRET)


def test_an_exchange_stays_quiet_when_a_client_is_closed_during_it(caplog: pytest.LogCaptureFixture) -> None:
    other = HelmrClient(url="http://127.0.0.1:9", api_key="hlmr_sk_a")
    with pytest.raises(HelmrConnectionError):
        single_shot(other).runs.retrieve("r")
    assert transport_of(other).http._pools
    with caplog.at_level(logging.DEBUG), quiet():
        other.close()
        _log_a_secret()
    assert SECRET not in caplog.text


def test_an_exchange_stays_quiet_when_one_of_another_loop_is_collected(caplog: pytest.LogCaptureFixture) -> None:
    async def suspended() -> None:
        with quiet():
            await asyncio.Event().wait()

    async def one_turn() -> None:
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    task = loop.create_task(suspended())
    loop.run_until_complete(one_turn())
    loop.close()
    with caplog.at_level(logging.DEBUG), quiet():
        del task
        gc.collect()
        _log_a_secret()
    assert "Task was destroyed" in caplog.text
    assert SECRET not in caplog.text


def test_other_users_of_httpcore_keep_their_log(caplog: pytest.LogCaptureFixture) -> None:
    async def exchange(entered: asyncio.Event, left: asyncio.Event) -> None:
        with quiet():
            entered.set()
            await left.wait()
            _log_a_secret()

    async def other() -> None:
        entered, left = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(exchange(entered, left))
        await entered.wait()
        logging.getLogger("httpcore.http11").debug("of another task")
        left.set()
        await task
        logging.getLogger("httpcore.http11").debug("after it")

    with caplog.at_level(logging.DEBUG):
        asyncio.run(other())
    assert [record.message for record in caplog.records if record.name == "httpcore.http11"] == [
        "of another task",
        "after it",
    ]
