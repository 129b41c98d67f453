"""Whatever a peer answers: bounded memory, bounded time, the client's own error, and no secret in it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.client.hostile.raw_server import RawServer
from tests.client.hostile.scenarios import CALLS, MIB, RUN, STREAMS, whole
from tests.client.scripted_server import VARIANTS
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client.hostile.scenarios import Scenario


@pytest.fixture(scope="module", params=VARIANTS)
def attack(request: pytest.FixtureRequest) -> Iterator[Callable[..., dict[str, Any]]]:
    """Let the client of one variant, in a process of its own, send a request to a server."""
    command = [sys.executable, "-m", "tests.client.hostile.victim", request.param]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdin is not None
        assert victim.stdout is not None

        def meet(url: str, limit: float = 60.0, *, stream: bool = False) -> dict[str, Any]:
            assert victim.stdin is not None
            assert victim.stdout is not None
            victim.stdin.write(json.dumps([url, limit, stream]) + "\n")
            victim.stdin.flush()
            result: dict[str, Any] = json.loads(victim.stdout.readline())
            return result

        with RawServer(whole(body=json.dumps(RUN).encode(), content_type="application/json")) as server:
            assert meet(server.url)["error"] is None, "the client works, and is loaded before memory counts"
        yield meet
        victim.stdin.close()
        victim.terminate()


@pytest.mark.parametrize("scenario", [*CALLS, *STREAMS], ids=lambda scenario: scenario.name)
def test_a_hostile_answer_ends_in_a_clear_error(attack: Callable[..., dict[str, Any]], scenario: Scenario) -> None:
    with RawServer(scenario.answer) as server:
        result = attack(server.url, scenario.limit, stream=scenario.stream)
    assert result["error"] == scenario.error, result
    assert scenario.text in result["text"], result
    assert "<html" not in result["text"]
    assert len(result["text"]) < 600
    assert not result["secret"], result
    assert result["memory"] <= 64 * MIB, f"{result['memory'] / MIB:.0f} MiB"
