"""Sessions as the server shows them."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from helmr_provider.client.models.base import Instant, OptionalText, WireModel
from helmr_provider.client.models.runs import TERMINAL_STATUSES, RunSnapshot


class SessionSnapshot(WireModel):
    """A session at one moment (schema Session).

    :param status: open, closed, cancelled or expired; other text from newer servers.
    :param activity: idle, queued, running or waiting.
    :param can_close: whether closing would be accepted.
    :param current_run_id: the newest run, also after it ended.
    :param terminal_reason: ``{}`` while open.
    """

    nullable: ClassVar[frozenset[str]] = frozenset({"result"})

    id: str
    project_id: str
    environment_id: str
    task_id: str
    initial_deployment_id: str
    active_deployment_id: str
    external_id: OptionalText = None
    status: str
    activity: str
    can_close: bool = False
    current_run_id: OptionalText = None
    workspace_id: OptionalText = None
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    tags: tuple[str, ...] = ()
    result: Any = None
    error: Any = None
    timed_out: bool = False
    terminal_reason: Any = None
    expires_at: Instant | None = None
    expired_at: Instant | None = None
    created_at: Instant
    updated_at: Instant

    @property
    def is_open(self) -> bool:
        """Whether it takes input and further runs."""
        return self.status == "open"


class SessionRun(WireModel):
    """One turn of a session (schema SessionRun).

    :param id: id of the link between session and run, not of the run.
    :param run_id: the run.
    :param turn_index: 0 for the run of the start, then one more for each follow-up.
    :param execution_status: finer than the status: created, queued, leased, executing, waiting, pending_cancel or
        finished.
    :param terminal_outcome: succeeded, failed, cancelled, expired or dead_lettered.
    """

    id: str
    run_id: str
    deployment_id: str
    previous_run_id: OptionalText = None
    turn_index: int
    status: str
    execution_status: str = ""
    terminal_outcome: OptionalText = None
    created_at: Instant
    ended_at: Instant | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether this run is over."""
        return self.status in TERMINAL_STATUSES


class SessionStart(WireModel):
    """A started or reused session and its run (schema SessionStartResponse).

    :param is_cached: the session existed already, so nothing was started.
    """

    session: SessionSnapshot
    run: RunSnapshot
    is_cached: bool = False


class SessionStartAndWait(SessionStart):
    """A session and the run after the wait.

    :param timed_out: the wait ended before the run did.
    """

    timed_out: bool = False
