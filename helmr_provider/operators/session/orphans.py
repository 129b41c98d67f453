"""Cancel the runs that a task instance of this Airflow started and nothing waits for any more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowException

from helmr_provider._common.cancel_reasons import ORPHANED
from helmr_provider._common.errors import one_line
from helmr_provider._common.task_state import is_over
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import require_age, require_bool
from helmr_provider._sessions.identity import OWNERSHIP
from helmr_provider.client.errors import HelmrConflictError, HelmrGoneError, HelmrNotFoundError
from helmr_provider.operators._base import HelmrOperator

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.client.models.sessions import SessionSnapshot

# A list has no cursor: entries behind the last one are out of reach (contract/behaviour.md section 4).
_FULL_LIST: Final = 200


class HelmrCancelOrphansOperator(HelmrOperator):
    """Cancel sessions whose task instance is over, or gone, while their first run is still active.

    ``HelmrStartSessionOperator`` cancels what it started when its task ends early. An orphan remains if it could not:
    its worker and its trigger were killed, or the control plane was unreachable for longer than the clean-up was
    repeated. Schedule this operator, for example hourly, to end orphans before they cost more.

    A session is an orphan only if its name starts with the connection's ``session_prefix``, its metadata name a task
    instance of this Airflow, and its task was to be cancelled with it (``wait_for_completion``, ``cancel_on_kill`` and
    ``cancel_on_timeout`` are all true). Sessions with an ``external_id`` of your own, sessions that earlier releases
    started, and later turns of a conversation are never cancelled.

    Needs the scopes ``runs:read`` and ``runs:manage`` (operations listSessions, listTasks, listSessionRuns,
    cancelSession).

    .. seealso:: Guide: :doc:`/how-to/retries`

    :param min_age: only sessions that were created at least this long ago; a timedelta, seconds, or text such as
        ``"15m"``. Default: 10 minutes. (templated)
    :param only_dag_id: only sessions of this DAG. Default: all. (templated)
    :param max_cancelled: how many sessions to cancel at most; the next run continues. Default: 100.
    :param preview_only: whether to log and return the orphans without cancelling them; a boolean, or text such as
        ``"True"``. Default: False. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :return: ``{"cancelled": [{"session_id", "external_id", "task", "state"}, …], "out_of_reach": bool,
        "preview_only": bool}``. ``out_of_reach`` says that lists were full, so that older orphans may exist.
    :raises AirflowFailException: the connection may not do it.
    :raises AirflowException: some orphans could not be checked or cancelled; all others were.
    """

    template_fields: Collection[str] = ("min_age", "only_dag_id", "preview_only", "helmr_conn_id")
    ui_color = "#e8e4f8"

    only_dag_id = TemplateField[str | None](text)

    def __init__(
        self,
        *,
        min_age: timedelta | float | str = timedelta(minutes=10),
        only_dag_id: str | None = None,
        max_cancelled: int = 100,
        preview_only: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.min_age = min_age
        self.only_dag_id = only_dag_id
        self.max_cancelled = max_cancelled
        self.preview_only = preview_only
        if max_cancelled < 1:
            raise ValueError("max_cancelled must be at least 1")

    def execute(self, context: Context) -> dict[str, Any]:
        """Find orphans and cancel them.

        :param context: of the task instance.
        """
        preview_only = require_bool("preview_only", self.preview_only)
        search = _Search(
            self,
            latest=datetime.now(UTC) - require_age("min_age", self.min_age),
            host=_host(getattr(context["ti"], "log_url", None)),
            preview_only=preview_only,
        )
        with self._translate_errors("find orphaned Helmr sessions"):
            out_of_reach = search.everywhere()
        self.log.info("%s %d orphans.", "Would cancel" if preview_only else "Cancelled", len(search.cancelled))
        if out_of_reach:
            self.log.warning(
                "There are more open sessions than lists show: older orphans may be out of reach. "
                "HelmrCleanupSessionsOperator makes room by closing idle sessions."
            )
        if search.failed:
            raise AirflowException(
                f"Cancelled {len(search.cancelled)} orphans, but {len(search.failed)} sessions could not be checked or "
                f"cancelled: {'; '.join(search.failed)}"
            )
        return {"cancelled": search.cancelled, "out_of_reach": out_of_reach, "preview_only": preview_only}


@dataclass(frozen=True)
class _TaskInstance:
    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, stamp: Mapping[str, Any]) -> _TaskInstance | None:
        dag_id, run_id, task_id, map_index = (stamp.get(name) for name in cls.__dataclass_fields__)
        if not (isinstance(dag_id, str) and isinstance(run_id, str) and isinstance(task_id, str)):
            return None
        return cls(dag_id, run_id, task_id, map_index if isinstance(map_index, int) else -1)

    def __str__(self) -> str:
        mapped = "" if self.map_index < 0 else f"[{self.map_index}]"
        return f"{self.dag_id}.{self.task_id}{mapped} of {self.run_id}"


class _Search:
    """One search for orphans.

    :param operator: what to search for.
    :param latest: sessions that were created later are left alone.
    :param host: of this Airflow; another Airflow that uses the same prefix by mistake keeps its sessions.
    :param preview_only: whether to cancel nothing.
    """

    def __init__(
        self, operator: HelmrCancelOrphansOperator, *, latest: datetime, host: str | None, preview_only: bool
    ) -> None:
        self._client = operator.hook.client
        self._log = operator.log
        self._most = operator.max_cancelled
        self._preview_only = preview_only
        self._prefix = f"{operator.hook.settings.session_prefix}:"
        self._dag_id = operator.only_dag_id
        self._latest = latest
        self._host = host
        self._seen: set[str] = set()
        self.cancelled: list[dict[str, str]] = []
        self.failed: list[str] = []

    def everywhere(self) -> bool:
        """Go through all sessions that lists show; return whether lists hide older ones."""
        listed = self._go_through(None)
        if len(listed) < _FULL_LIST:
            return False
        tasks = {session.task_id for session in listed} | {task.task_id for task in self._client.tasks.list()}
        lists = [self._go_through(task_id) for task_id in sorted(tasks)]
        return any(len(sessions) >= _FULL_LIST for sessions in lists)

    def _go_through(self, task_id: str | None) -> list[SessionSnapshot]:
        listed = self._client.sessions.list(status="open", task_id=task_id, limit=_FULL_LIST)
        for session in reversed(listed):
            if session.id not in self._seen and len(self.cancelled) < self._most:
                self._seen.add(session.id)
                self._cancel_if_orphaned(session)
        return listed

    def _cancel_if_orphaned(self, session: SessionSnapshot) -> None:
        instance = self._owner(session)
        if instance is None:
            return
        try:
            state = is_over(instance)
        except Exception as error:  # noqa: BLE001 - Airflow has many errors for it; this session is reported
            reason = f"{type(error).__name__}: {one_line(error)}"
            self.failed.append(f"{session.id} (Airflow does not say the state of {instance}: {reason})")
            return
        if state is None or not self._is_first_run_active(session):
            return
        if not self._preview_only and not self._cancel(session):
            return
        self._log.info(
            "%s session %s (%s): %s is %s.",
            "Would cancel" if self._preview_only else "Cancelled",
            session.id,
            session.external_id,
            instance,
            state,
        )
        found = {"session_id": session.id, "external_id": session.external_id or "", "task": str(instance)}
        self.cancelled.append({**found, "state": state})

    def _owner(self, session: SessionSnapshot) -> _TaskInstance | None:
        """Return the task instance that the session ends with; ``None`` if it is not ours to cancel."""
        stamp = session.metadata.get(OWNERSHIP)
        if not isinstance(stamp, dict) or stamp.get("ends_with_task") is not True:
            return None
        if not (session.external_id or "").startswith(self._prefix) or session.activity == "idle":
            return None
        if session.created_at > self._latest:
            return None
        host = _host(stamp.get("url"))
        if None not in {host, self._host} and host != self._host:
            return None
        instance = _TaskInstance.of(stamp)
        return instance if instance is None or self._dag_id in {None, instance.dag_id} else None

    def _is_first_run_active(self, session: SessionSnapshot) -> bool:
        runs = self._client.sessions.open(session.id).runs()
        return any(run.turn_index == 0 and not run.is_terminal for run in runs)

    def _cancel(self, session: SessionSnapshot) -> bool:
        try:
            self._client.sessions.open(session.id).cancel(reason=ORPHANED)
        except (HelmrConflictError, HelmrGoneError, HelmrNotFoundError) as error:
            self._log.info("Session %s has just ended: %s", session.id, error)
            return False
        return True


def _host(url: Any) -> str | None:
    return (urlsplit(url).netloc or None) if isinstance(url, str) else None
