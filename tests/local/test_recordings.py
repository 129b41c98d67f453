"""The local control plane answers what the real one answered: recordings played against it, topic by topic."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from helmr_provider.local import LocalControlPlane
from tests.conftest import CONTRACT, REPRODUCED, ROOT
from tests.support.local.recorded_topics import TOPICS, play_topic
from tests.support.local.recording_replay import Replay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECORDINGS = CONTRACT / "recordings"
FIDELITY = ROOT / "docs" / "explanation" / "fidelity.md"


# What the topics below contain and this control plane does not do, with the reason.
NOT_PLAYED = {
    10: "the console's pages are served here; the recorded server was built without them",
    28: "browser sessions do not exist here",
    29: "browser sessions do not exist here",
    30: "browser sessions do not exist here",
    31: "browser sessions do not exist here",
    32: "browser sessions do not exist here",
    816: "the recorded server could not fire schedules: its runner had no artifact store",
    977: "how a command ends that a stop kills is the worker's choice: 915 shows `terminated`, as here",
    **dict.fromkeys(range(907, 913), "browser sessions do not exist here"),
}


# What the first test here has played, for the others.
_played: set[int] = set()
_scores: dict[str, str] = {}


@pytest.mark.parametrize("topic", TOPICS)
def test_recordings_are_reproduced(topic: str, record_property: Callable[[str, object], None]) -> None:
    problems = play_topic(topic, RECORDINGS)
    failed = {name: found for name, found in problems.items() if found}
    _scores[topic] = f"{len(problems) - len(failed)} of {len(problems)}"
    record_property(REPRODUCED, f"{topic:20} {_scores[topic]}")
    _played.update(int(name.partition("-")[0]) for name in problems)
    assert failed == {}


def test_every_recording_of_these_topics_is_played_or_left_out_with_a_reason() -> None:
    if set(_scores) != set(TOPICS):
        pytest.skip("only meaningful after the topics were played")
    recorded = {int(path.name.partition("-")[0]) for path in RECORDINGS.glob("[0-9]*.json")}
    assert recorded - _played == set(NOT_PLAYED)


def test_the_document_names_what_is_left_out() -> None:
    _, _, section = FIDELITY.read_text().partition("## Not reproduced\n")
    table, _, _ = section.partition("\n## ")
    named: set[int] = set()
    for cell in re.findall(r"^\| (\d[^|]*) \|", table, re.MULTILINE):
        for first, last in re.findall(r"(\d{1,4})(?:\u2013(\d{1,4}))?", cell):
            named.update(range(int(first), int(last or first) + 1))
    assert named == set(NOT_PLAYED)


def test_the_document_has_the_score_of_every_topic() -> None:
    documented = dict(re.findall(r"^\| ([^|]+) \| (\d+ of \d+) \|$", FIDELITY.read_text(), re.MULTILINE))
    assert list(documented) == list(TOPICS)
    assert {topic: documented[topic] for topic in _scores} == _scores
    reproduced = sum(int(score.split()[0]) for score in documented.values())
    recorded = len(list(RECORDINGS.glob("[0-9]*.json")))
    assert recorded == reproduced + len(NOT_PLAYED)
    assert f"{reproduced} of {recorded} are reproduced" in FIDELITY.read_text()


@pytest.mark.parametrize(
    ("member", "value", "complaint"),
    [
        ("status", 201, "status"),
        ("headers", {"content-type": "text/plain", "helmr-api-version": "2026-06-06"}, "header content-type"),
        ("json", {"queued": 0, "running": 0}, "members"),
        ("json", {"runs": []}, "members"),
    ],
)
def test_the_comparison_sees_a_difference(member: str, value: object, complaint: str, tmp_path: Path) -> None:
    recording = json.loads((RECORDINGS / "395-runs-counts-staging.json").read_text())
    recording["response"][member] = value
    (tmp_path / "000-changed.json").write_text(json.dumps(recording))
    with LocalControlPlane() as server:
        replay = Replay(server, tmp_path, "2026-11-23T17:30:44Z")
        replay.play("000-changed")
    assert any(problem.lstrip(": ").startswith(complaint) for problem in replay.problems["000-changed"])
