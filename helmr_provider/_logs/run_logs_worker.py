"""The output of the run that a worker waits for, in the task's log. A failure here costs the log, never the wait."""

from __future__ import annotations

import random
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from helmr_provider._logs.run_logs import SILENCE, RunLogLines, is_worth_retrying, write_tail
from helmr_provider.client._internals import single_shot
from helmr_provider.client._waiting.pacing import PollInterval
from helmr_provider.client.errors import HelmrTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider._logs.run_logs import Logs
    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.runs import RunSnapshot

_READ_SECONDS: Final = 5.0
_LAST_READ_SECONDS: Final = 10.0


class RunLogReader:
    """Write a run's output into the log of the task that waits for it.

    A worker holds no stream open: it polls, and each poll reads the output that exists.

    :param logs: the last lines after the wait, all lines while they come, or nothing.
    :param client: of the worker.
    :param run_id: the run.
    :param log: of the task.
    :param cursor: behind what the triggerer has written.
    """

    def __init__(self, logs: Logs, client: HelmrClient, run_id: str, log: Any, cursor: str | None = None) -> None:
        self._client = client
        self._run_id = run_id
        self._log = log
        self._tail = logs == "tail"
        self._lines = RunLogLines(log, cursor) if logs == "live" else None

    def wait(self, timeout: float | None) -> RunSnapshot:
        """Wait for the run.

        :param timeout: seconds; ``None`` for as long as it takes.
        :raises HelmrTimeoutError: it had not ended by then.
        """
        ends_at = None if timeout is None else time.monotonic() + timeout
        pace = PollInterval(2.0, 15.0, 1.5, random.random)
        while self._lines is not None:
            left = None if ends_at is None else ends_at - time.monotonic()
            pause = pace.next()
            if left is not None and left <= pause:
                break
            try:
                return self._client.runs.wait(self._run_id, timeout=pause)
            except HelmrTimeoutError:
                if self._read_for(_READ_SECONDS):
                    pace.reset()
        left = None if ends_at is None else max(0.0, ends_at - time.monotonic())
        return self._client.runs.wait(self._run_id, timeout=left)

    def finish(self) -> None:
        """Write the rest after the wait."""
        if self._tail:
            self._safely(lambda: write_tail(self._log, self._client.runs.logs.retrieve(self._run_id)))
        if (lines := self._lines) is not None:
            self._read_for(_LAST_READ_SECONDS)
            self._safely(lines.end)

    def _read_for(self, seconds: float) -> bool:
        lines = self._lines
        if lines is None:
            return False
        before, give_up = lines.cursor, time.monotonic() + seconds

        def read() -> None:
            logs = single_shot(self._client, silence=SILENCE).runs.logs
            with closing(logs.stream(self._run_id, cursor=lines.cursor)) as chunks:
                for chunk in chunks:
                    lines.take(chunk)
                    if time.monotonic() > give_up:
                        break

        self._safely(read)
        return lines.cursor != before

    def _safely(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # noqa: BLE001 - it is said
            if not is_worth_retrying(error, self._log, self._lines):
                self._lines = None
