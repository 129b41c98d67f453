"""The default client behind the module-level facades: built at first use, one for each process and event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from helmr_provider import client
from helmr_provider.client import HelmrConfigError, _default_client, aio
from tests.client.run_json import RUN
from tests.client.scripted_server import Reply, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.client import AsyncHelmrClient


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    with ScriptedServer(Reply(json=RUN)) as server:
        monkeypatch.setenv("HELMR_API_URL", server.url)
        monkeypatch.setenv("HELMR_API_KEY", "hlmr_sk_facade")
        monkeypatch.setattr(_default_client, "_default", None)
        yield server
        if _default_client._default is not None:
            _default_client._default[1].close()


def test_asking_a_facade_for_a_name_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HELMR_API_URL", raising=False)
    monkeypatch.setattr(_default_client, "_default", None)
    assert not hasattr(client.runs, "retrieve")
    with pytest.raises(HelmrConfigError, match="HELMR_API_URL"):
        client.runs.retrieve("r")


def test_the_default_client_can_be_closed_and_is_built_again(wire: ScriptedServer) -> None:
    client.close()
    first = client.default_client()
    client.close()
    assert first._transport.http.is_closed
    assert client.default_client() is not first
    assert not hasattr(client.runs, "nonsense")


def test_a_facade_uses_the_key_of_the_environment_and_one_client(wire: ScriptedServer) -> None:
    assert client.runs.retrieve("r").id == "r"
    assert client.default_client() is client.default_client()
    assert client.runs.retrieve("r").id == "r"
    assert [request.headers["authorization"] for request in wire.requests] == ["Bearer hlmr_sk_facade"] * 2


def test_the_first_use_fails_with_the_constructors_error_and_the_next_tries_again(
    wire: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HELMR_API_URL")
    with pytest.raises(HelmrConfigError, match="HELMR_API_URL"):
        client.runs.retrieve("r")
    monkeypatch.setenv("HELMR_API_URL", wire.url)
    assert client.runs.retrieve("r").id == "r"


def test_a_facade_has_its_name_before_its_first_call() -> None:
    code = "from helmr_provider.client import runs; from helmr_provider.client.aio import runs as a; print(runs, a)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HELMR_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "<runs of the default client> <runs of the default client>\n"


def test_a_star_import_gives_every_public_name_and_nothing_else() -> None:
    names: dict[str, object] = {}
    exec("from helmr_provider.client import *", names)  # elsewhere than at module level, the language forbids it
    del names["__builtins__"]
    assert {"HelmrClient", "Task", "HelmrError", "runs"} <= names.keys()
    assert all(names[name] is getattr(client, name) for name in names)
    assert not {name for name in names if name.startswith("_")} | {"Any", "TYPE_CHECKING"} & names.keys()


def test_a_forked_child_builds_a_client_of_its_own(wire: ScriptedServer) -> None:
    code = (
        "import os; from helmr_provider.client import default_client; mine = default_client();"
        "child = os.fork();"
        "os._exit(0 if default_client() is not mine else 1) if child == 0 else None;"
        "assert default_client() is mine;"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=False)
    assert done.returncode == 0


def test_each_event_loop_has_a_client_of_its_own_that_goes_with_it(wire: ScriptedServer) -> None:
    async def use() -> AsyncHelmrClient:
        assert (await aio.runs.retrieve("r")).id == "r"
        found = aio.default_client()
        assert found is aio.default_client()
        await aio.aclose()
        assert aio.default_client() is not found
        await aio.aclose()
        return found

    assert asyncio.run(use()) is not asyncio.run(use())
    gc.collect()
    assert len(aio._clients) == 0
    assert len(wire.requests) == 2


def test_the_asynchronous_facade_needs_a_running_loop(wire: ScriptedServer) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        aio.default_client()
