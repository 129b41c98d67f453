"""Addresses of Helmr's console pages, and the buttons in Airflow's user interface that lead there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

_STORED: Final[set[tuple[str, str]]] = set()
"""Links that this process has stored: id of the task instance and XCom key."""


def session_url(console_url: str, session_id: str) -> str:
    """Return the console page of a session.

    :param console_url: Base address of the console.
    :param session_id: Id of the session.
    """
    return f"{console_url.rstrip('/')}/sessions/{quote(session_id, safe='')}"


def run_url(console_url: str, session_id: str, run_id: str) -> str:
    """Return the console page of a run.

    :param console_url: Base address of the console.
    :param session_id: Id of the session that the run belongs to.
    :param run_id: Id of the run.
    """
    return f"{session_url(console_url, session_id)}/runs/{quote(run_id, safe='')}"


def token_url(console_url: str, token_id: str) -> str:
    """Return the console page of a token.

    :param console_url: Base address of the console.
    :param token_id: Id of the token.
    """
    return f"{console_url.rstrip('/')}/tokens/{quote(token_id, safe='')}"


def workspace_url(console_url: str, workspace_id: str) -> str:
    """Return the console page of a workspace.

    :param console_url: Base address of the console.
    :param workspace_id: Id of the workspace.
    """
    return f"{console_url.rstrip('/')}/workspaces/{quote(workspace_id, safe='')}"


class _StoredLink(BaseOperatorLink):
    """A link that the task stores as an XCom as soon as it knows the address.

    Airflow 3 stores links only when a task's process ends, and its interface reads only the stored value; storing it
    earlier is what shows the button while the task runs. Airflow 2 asks the link instead, which reads the same value.
    """

    @property
    def xcom_key(self) -> str:
        """Return the XCom key under which Airflow 3 expects the address."""
        return f"_link_{type(self).__name__}"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:  # noqa: ARG002
        """Return the stored address; empty if the task ended before it knew one.

        :param operator: The operator that the link belongs to.
        :param ti_key: The task instance, or its key.
        """
        from airflow.providers.common.compat.sdk import XCom

        if _is_first_run(ti_key) and (str(ti_key.id), self.xcom_key) not in _STORED:
            # Airflow 3 would log the lookup as an error, "XCom not found".
            return ""
        if _is_in_its_process(ti_key) and ti_key.map_index in {None, -1}:
            # Without a map index, Airflow asks for a list, and an empty one is no error.
            found = ti_key.xcom_pull(task_ids=ti_key.task_id, key=self.xcom_key)
            return found if isinstance(found, str) else ""
        return XCom.get_value(key=self.xcom_key, ti_key=ti_key) or ""

    def store(self, context: Context, url: str) -> None:
        """Store the address.

        :param context: Context of the running task.
        :param url: The address.
        """
        ti = context["ti"]
        ti.xcom_push(key=self.xcom_key, value=url)
        if _is_first_run(ti):
            _STORED.add((str(ti.id), self.xcom_key))


def _is_first_run(ti: Any) -> bool:
    """Whether this process is the first of its try, so that all links are its own: Airflow deletes those before.

    :param ti: The task instance in its process on Airflow 3; anything else is not known to be the first.
    """
    start = getattr(ti, "_ti_context_from_server", None)
    return start is not None and not start.next_method and not start.task_reschedule_count


def _is_in_its_process(ti: Any) -> bool:
    """Whether this process runs the task instance, on Airflow 3."""
    return getattr(ti, "_ti_context_from_server", None) is not None


class HelmrSessionLink(_StoredLink):
    """Lead to the session's page in the Helmr console."""

    @property
    def name(self) -> str:
        """Return the button's text."""
        return "Helmr session"


class HelmrRunLink(_StoredLink):
    """Lead to the run's page in the Helmr console."""

    @property
    def name(self) -> str:
        """Return the button's text."""
        return "Helmr run"


class HelmrTokenLink(_StoredLink):
    """Lead to the token's page in the Helmr console."""

    @property
    def name(self) -> str:
        """Return the button's text."""
        return "Helmr token"


class HelmrApprovalLink(_StoredLink):
    """Lead to the page of the question's token in the Helmr console."""

    @property
    def name(self) -> str:
        """Return the button's text."""
        return "Helmr approval"


class HelmrWorkspaceLink(_StoredLink):
    """Lead to the workspace's page in the Helmr console."""

    @property
    def name(self) -> str:
        """Return the button's text."""
        return "Helmr workspace"


def store_links(context: Context, *, console_url: str, session_id: str, run_id: str | None = None) -> None:
    """Store the links to the pages of session and run; call it as soon as the ids are known.

    :param context: Context of the running task.
    :param console_url: Base address of the console (``HelmrHook.settings.console_url``).
    :param session_id: Id of the session.
    :param run_id: Id of the run, once it is known.
    """
    HelmrSessionLink().store(context, session_url(console_url, session_id))
    if run_id is not None:
        HelmrRunLink().store(context, run_url(console_url, session_id, run_id))


def store_token_link(context: Context, *, console_url: str, token_id: str) -> None:
    """Store the link to the token's page; call it as soon as the token exists.

    :param context: Context of the running task.
    :param console_url: Base address of the console (``HelmrHook.settings.console_url``).
    :param token_id: Id of the token.
    """
    HelmrTokenLink().store(context, token_url(console_url, token_id))


def store_approval_link(context: Context, *, console_url: str, token_id: str) -> None:
    """Store the link to the page of the question's token; call it as soon as the token exists.

    :param context: Context of the running task.
    :param console_url: Base address of the console (``HelmrHook.settings.console_url``).
    :param token_id: Id of the token.
    """
    HelmrApprovalLink().store(context, token_url(console_url, token_id))


def store_workspace_link(context: Context, *, console_url: str, workspace_id: str) -> None:
    """Store the link to the workspace's page; call it as soon as the id is known.

    :param context: Context of the running task.
    :param console_url: Base address of the console (``HelmrHook.settings.console_url``).
    :param workspace_id: Id of the workspace.
    """
    HelmrWorkspaceLink().store(context, workspace_url(console_url, workspace_id))
