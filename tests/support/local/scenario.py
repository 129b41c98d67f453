"""Where recordings are played: a server with scripted tasks, and what scenes do between two recordings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import SECOND, Clock
from tests.support.local.recording_replay import Replay
from tests.support.local.wire import Wire
from tests.support.polling import until

if TYPE_CHECKING:
    from pathlib import Path

    from helmr_provider.local import LocalControlPlane, TaskFailure
    from tests.support.local.scripted_tasks import Act, Director


class MovableClock(Clock):
    """The clock as tests move it: in seconds."""

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        super().advance(int(seconds * SECOND))


class Scenario:
    """A server with scripted tasks, a replay on it, and what scenes do between recordings."""

    def __init__(
        self, server: LocalControlPlane, director: Director, folder: Path, recorded_at: str, clock: MovableClock
    ) -> None:
        self.server = server
        self.clock = clock
        self.director = director
        self.wire = Wire(server)
        self._folder = folder
        self.replay = Replay(server, folder, recorded_at)
        self._names = {int(path.name.partition("-")[0]): path.stem for path in sorted(folder.glob("[0-9]*.json"))}

    def play(self, *numbers: int, **options: Any) -> None:
        """Play recordings by number."""
        for number in numbers:
            self.replay.play(self._names[number], **options)

    def recorded(self, number: int) -> Any:
        """Return a recording."""
        return json.loads((self._folder / f"{self._names[number]}.json").read_text())

    def begin(
        self, number: int, kind: str = "", *, status: str = "running", task: str = "code-review", **options: Any
    ) -> str:
        """Start a session and wait until its run has a status; return the run's id.

        :param number: the recording that comes next.
        :param kind: whose id stands in its path: the session's, the run's, or none.
        """
        started = self.wire.start(task, **options)
        run_id = started["run"]["id"]
        if kind:
            self.replay.bind(self.recorded(number)["request"]["path"].split("/")[3], started[kind]["id"])
        self.wire.until(run_id, status)
        return str(run_id)

    def do(self, run_id: str, *acts: Act) -> None:
        """Let a run act, and wait until it has done so."""
        wanted = len(self.director.results(run_id)) + len(acts)
        for act in acts:
            self.director.tell(run_id, act)
        until(lambda: len(self.director.results(run_id)) >= wanted)

    def end(self, run_id: str, output: Any = None) -> None:
        """Let a run succeed."""
        self.director.end(run_id, lambda: output)
        self.wire.ended(run_id)

    def fail(self, run_id: str, failure: TaskFailure) -> None:
        """Let an attempt fail."""

        def raising() -> Any:
            raise failure

        self.director.end(run_id, raising)

    def newest_run(self) -> str:
        """Return the id of the newest run."""
        return str(self.wire.get("/api/runs", status="all", limit="1")["runs"][0]["id"])
