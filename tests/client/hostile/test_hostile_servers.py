"""Whatever a peer answers: bounded memory, bounded time, the client's own error, and no secret in it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.client.hostile.raw_server import RawServer
from tests.client.hostile.scenarios import CALLS, MIB, RUN, STREAMS, whole
from tests.client.hostile.victim import TRIGGERS
from tests.client.scripted_server import VARIANTS
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.client.hostile.scenarios import Scenario


@contextlib.contextmanager
def victim_of(variant: str) -> Iterator[Callable[..., dict[str, Any]]]:
    """Let one variant of the client, in a process of its own, send a request to a server."""
    command = [sys.executable, "-m", "tests.client.hostile.victim", variant]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdin is not None
        assert victim.stdout is not None

        def meet(url: str, limit: float = 60.0, *, stream: bool = False, waits_for: str = "run") -> dict[str, Any]:
            assert victim.stdin is not None
            assert victim.stdout is not None
            victim.stdin.write(json.dumps([url, limit, stream, waits_for]) + "\n")
            victim.stdin.flush()
            result: dict[str, Any] = json.loads(victim.stdout.readline())
            return result

        # Everything works, and is loaded before memory counts. A busy machine needs seconds for that.
        ended = json.dumps(RUN | {"status": "succeeded"}).encode()
        with RawServer(whole(body=ended, content_type="application/json")) as server:
            warm = meet(server.url)
            assert '"ended"' in warm["text"] if variant == "trigger" else warm["error"] is None, warm
        for waits_for in TRIGGERS if variant == "trigger" else ():
            with RawServer(whole("404 Not Found", b"{}", content_type="application/json")) as server:
                warm = meet(server.url, waits_for=waits_for)
                assert '"error"' in warm["text"], warm
        yield meet
        victim.stdin.close()
        victim.terminate()


@pytest.fixture(scope="module", params=VARIANTS)
def attack(request: pytest.FixtureRequest) -> Iterator[Callable[..., dict[str, Any]]]:
    with victim_of(request.param) as meet:
        yield meet


@pytest.fixture(scope="module")
def attack_trigger() -> Iterator[Callable[..., dict[str, Any]]]:
    with victim_of("trigger") as meet:
        yield meet


FLOODS = ("endless", "gigabyte", "bomb", "nested", "flood", "slow", "redirect", "another id", "digits", "a wait of")


@pytest.mark.parametrize(
    "scenario",
    [scenario for scenario in CALLS if any(word in scenario.name for word in FLOODS)],
    ids=lambda scenario: scenario.name,
)
def test_a_trigger_ends_in_an_event_at_its_deadline(
    attack_trigger: Callable[..., dict[str, Any]], scenario: Scenario
) -> None:
    with RawServer(scenario.answer) as server:
        result = attack_trigger(server.url, 1.0)
    assert result["error"] == "HelmrError", result
    assert json.loads(result["text"])["status"] in {"timeout", "error"}
    assert not result["secret"], result
    assert result["memory"] <= 64 * MIB, f"{result['memory'] / MIB:.0f} MiB"


# The waits of other triggers share all but what they read: a few answers are enough.
@pytest.mark.parametrize("waits_for", [each for each in TRIGGERS if each != "run"])
@pytest.mark.parametrize(
    "scenario",
    [scenario for scenario in CALLS if scenario.name in {"endless headers", "a gzip bomb", "an echo of the key"}],
    ids=lambda scenario: scenario.name,
)
def test_so_does_the_trigger_of_any_other_wait(
    attack_trigger: Callable[..., dict[str, Any]], scenario: Scenario, waits_for: str
) -> None:
    with RawServer(scenario.answer) as server:
        result = attack_trigger(server.url, 0.5, waits_for=waits_for)
    assert result["error"] == "HelmrError", result
    assert json.loads(result["text"])["status"] in {"timeout", "error"}
    assert not result["secret"], result
    assert result["memory"] <= 64 * MIB, f"{result['memory'] / MIB:.0f} MiB"


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
