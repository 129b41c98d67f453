"""Close idle sessions that this Airflow has started.

The last run of each is read as well: its end does not change the session's ``updated_at``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowException

from helmr_provider._common.errors import one_line
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import renamed, require_age, require_bool
from helmr_provider._sessions.identity import OWNERSHIP, ownership_member
from helmr_provider.client.errors import (
    HelmrApiError,
    HelmrAuthError,
    HelmrConflictError,
    HelmrGoneError,
    HelmrNotFoundError,
    HelmrPermissionError,
    HelmrProtocolError,
)
from helmr_provider.operators._base import HelmrOperator

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.client.models.sessions import SessionSnapshot

# A list has no cursor: entries behind the last one are out of reach (contract/behaviour.md section 4).
_FULL_LIST: Final = 200


class HelmrCleanupSessionsOperator(HelmrOperator):
    """Close sessions of this Airflow that have been idle for a while.

    A session is closed only if its name begins with the connection's ``session_prefix`` and its metadata name a task
    instance: never one with an ``external_id`` of your own. Active sessions are left alone.

    A list of sessions shows only the 200 that changed last. While a list is full, each closed session makes room for an
    older one, and the list of each Helmr task is read as well. If all listed sessions are still too young, older ones
    are out of reach: the task logs a warning, and ``older_than_when_full`` closes younger ones to reach them.

    Needs the scopes ``runs:read`` and ``runs:manage`` (operations listSessions, listTasks, getRun, closeSession).

    .. seealso:: Guide: :doc:`/how-to/conversations`

    :param older_than: minimum time since the last change of the session and of its last run; a timedelta, seconds, or
        text such as ``"90m"``, ``"12h"``, ``"7d"``. (templated)
    :param older_than_when_full: the shorter time that is enough while older sessions are out of reach. By default,
        ``older_than`` always applies. (templated)
    :param only_dag_id: only sessions of this DAG. (templated)
    :param reason: kept with each session. (templated)
    :param max_closed: how many sessions to close at most; the next run continues. Default: 500.
    :param preview_only: whether to log and return the sessions without closing them; a boolean, or text such as
        ``"True"``. Default: False. (templated)
    :param dry_run: deprecated name of ``preview_only``.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :return: ``{"closed": [{"session_id", "external_id", "idle_since"}, …], "out_of_reach": bool,
        "preview_only": bool, "dry_run": bool}``. The last two are equal.
    :raises AirflowFailException: the connection may not do it, or a parameter is wrong.
    :raises AirflowException: some sessions could not be closed; all others were.
    """

    only_dag_id = TemplateField[str | None](text)
    reason = TemplateField[str](text)

    template_fields: Collection[str] = (
        "older_than",
        "older_than_when_full",
        "only_dag_id",
        "reason",
        "preview_only",
        "helmr_conn_id",
    )
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        older_than: timedelta | float | str,
        older_than_when_full: timedelta | float | str | None = None,
        only_dag_id: str | None = None,
        reason: str = "cleaned up by Airflow",
        max_closed: int = 500,
        preview_only: bool | str = False,
        dry_run: bool | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.older_than = older_than
        self.older_than_when_full = older_than_when_full
        self.only_dag_id = only_dag_id
        self.reason = reason
        self.max_closed = max_closed
        # BaseOperator has a method called dry_run, so an attribute cannot have that name.
        self.preview_only = renamed("preview_only", preview_only, "dry_run", dry_run)
        if max_closed < 1:
            raise ValueError("max_closed must be at least 1")

    def execute(self, context: Context) -> dict[str, Any]:
        """Close the sessions that are old enough.

        :param context: of the task instance.
        """
        preview_only = require_bool("preview_only", self.preview_only)
        age, when_full = require_age("older_than", self.older_than), None
        if self.older_than_when_full is not None:
            when_full = require_age("older_than_when_full", self.older_than_when_full)
        cleanup = _Cleanup(self, preview_only=preview_only)
        with self._translate_errors("clean up Helmr sessions"):
            out_of_reach = cleanup.everything(age)
            if out_of_reach and when_full is not None:
                out_of_reach = cleanup.everything(when_full)
        if out_of_reach:
            self.log.warning(
                "There are more open sessions than lists can show, and none of those shown is old enough to make room. "
                "Set older_than_when_full, or close sessions in the DAGs that have started them."
            )
        self.log.info("%s %d sessions.", "Would close" if preview_only else "Closed", len(cleanup.closed))
        if cleanup.failed:
            raise AirflowException(
                f"Closed {len(cleanup.closed)} Helmr sessions, but {len(cleanup.failed)} could not be closed: "
                + "; ".join(cleanup.failed)
            )
        return {
            "closed": cleanup.closed,
            "out_of_reach": out_of_reach,
            "preview_only": preview_only,
            "dry_run": preview_only,
        }


class _Cleanup:
    """One execution of the operator.

    :param operator: its parameters, client and log.
    :param preview_only: whether to close nothing.
    """

    def __init__(self, operator: HelmrCleanupSessionsOperator, *, preview_only: bool) -> None:
        self._client = operator.hook.client
        self._log = operator.log
        self._reason = operator.reason
        self._most = operator.max_closed
        self._preview_only = preview_only
        self._prefix = f"{operator.hook.settings.session_prefix}:"
        self._dag_id = operator.only_dag_id
        self._decided: set[str] = set()
        self._tasks: set[str] = set()
        self.closed: list[dict[str, str]] = []
        self.failed: list[str] = []

    def everything(self, age: timedelta) -> bool:
        """Close the listed sessions that are old enough; return whether lists hide older ones.

        :param age: minimum time since the last change.
        """
        # A decision about a session holds for one age only.
        self._decided.clear()
        if not self._work_off(None, age):
            return False
        self._tasks.update(task.task_id for task in self._client.tasks.list())
        full = [task_id for task_id in sorted(self._tasks) if self._work_off(task_id, age)]
        return bool(full)

    def _work_off(self, task_id: str | None, age: timedelta) -> bool:
        """Go through a list until it is complete or nothing in it can be closed; return whether it is full still."""
        while True:
            before = len(self.closed)
            listed = self._client.sessions.list(status="open", task_id=task_id, limit=_FULL_LIST)
            self._tasks.update(session.task_id for session in listed)
            for session in reversed(listed):
                if len(self.closed) < self._most:
                    self._try(session, datetime.now(UTC) - age)
            full = len(listed) >= _FULL_LIST
            if not full or len(self.closed) == before or self._preview_only or len(self.closed) >= self._most:
                return full

    def _try(self, session: SessionSnapshot, latest: datetime) -> None:
        """Close a session if it is ours and old enough; an error concerns only this one."""
        try:
            self._close_if_old(session, latest)
        except (HelmrAuthError, HelmrPermissionError):
            raise
        except (HelmrConflictError, HelmrGoneError, HelmrNotFoundError) as error:
            self._log.info("Session %s is left alone: %s", session.id, error)
        except (HelmrApiError, HelmrProtocolError) as error:
            self._log.warning("Session %s could not be closed: %s", session.id, error)
            self.failed.append(f"{session.id}: {one_line(error)}")

    def _close_if_old(self, session: SessionSnapshot, latest: datetime) -> None:
        if session.id in self._decided or not self._is_ours(session) or session.activity != "idle":
            return
        self._decided.add(session.id)
        since = session.updated_at
        if since <= latest and session.current_run_id is not None:
            # The end of a run does not change its session (recording 145).
            since = max(since, self._client.runs.retrieve(session.current_run_id).updated_at)
        if since > latest:
            return
        if not self._preview_only:
            self._client.sessions.open(session.id).close(reason=self._reason)
            self._log.info("Closed session %s (%s).", session.id, session.external_id)
        name = session.external_id or ""
        self.closed.append({"session_id": session.id, "external_id": name, "idle_since": since.isoformat()})

    def _is_ours(self, session: SessionSnapshot) -> bool:
        if not (session.external_id or "").startswith(self._prefix):
            return False
        if ownership_member(session.metadata, "owner") is None:
            return False
        return self._dag_id is None or bool(session.metadata[OWNERSHIP].get("dag_id") == self._dag_id)
