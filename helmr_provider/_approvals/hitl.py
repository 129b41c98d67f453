"""Airflow's Required Actions (3.1 and later): show a question there, read the answer, close it.

A worker can only show a question. Triggers read and close it: Airflow serves these requests in the triggerer only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from helmr_provider._common.versions import AIRFLOW_V_3_1_3_PLUS, AIRFLOW_V_3_1_PLUS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from helmr_provider._approvals.question import Answer, Question

AVAILABLE: Final = AIRFLOW_V_3_1_PLUS


@dataclass(frozen=True, slots=True)
class Row:
    """A task instance's question as Airflow keeps it.

    :param there: false after a clear or retry, when the task instance has another id.
    :param response: the members of the answer, by name as Airflow resumes tasks with it.
    """

    there: bool
    response: Mapping[str, Any] | None = None


def show(ti_id: str, question: Question, assigned_users: Sequence[Mapping[str, str]] | None) -> None:
    """Show the question, without an answer; from a task's process.

    :param ti_id: id of the task instance.
    :param question: what to ask.
    :param assigned_users: who alone may answer, each ``{"id": …, "name": …}``; ``None`` for everyone.
    """
    from airflow.sdk.execution_time.hitl import HITLUser, upsert_hitl_detail

    upsert_hitl_detail(
        ti_id=UUID(ti_id),
        options=list(question.options),
        subject=question.subject,
        body=question.body,
        defaults=None if question.defaults is None else list(question.defaults),
        multiple=question.multiple,
        params=question.params if AIRFLOW_V_3_1_3_PLUS else question.preset,
        assigned_users=[HITLUser(id=user["id"], name=user["name"]) for user in assigned_users or ()],
    )


def is_readable() -> bool:
    """Whether Airflow lets this trigger read and close questions.

    ``airflow dags test`` runs triggers in the process of the task, refuses their requests and logs each as an error.
    """
    from airflow.sdk.execution_time import task_runner

    return type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__ != "InProcessSupervisorComms"


async def read(ti_id: str) -> Row:
    """Read whether the question was answered in Airflow; from a trigger.

    :param ti_id: id of the task instance.
    :raises Exception: Airflow refused the request.
    """
    from airflow.sdk.execution_time.hitl import get_hitl_detail_content_detail
    from asgiref.sync import sync_to_async

    try:
        found = await sync_to_async(get_hitl_detail_content_detail)(ti_id=UUID(ti_id))
    except Exception as error:
        if _status(error) == 404:
            return Row(there=False)
        raise
    if not found.response_received:
        return Row(there=True)
    user = found.responded_by_user
    return Row(
        there=True,
        response={
            "chosen_options": list(found.chosen_options or ()),
            "params_input": found.params_input or {},
            "responded_at": found.responded_at,
            "responded_by_user": None if user is None else {"id": user.id, "name": user.name},
        },
    )


async def close(ti_id: str, answer: Answer) -> bool:
    """Close the question with an answer from elsewhere, unless it has one; from a trigger.

    :param ti_id: id of the task instance.
    :param answer: what to show as the answer.
    :return: whether this closed it.
    :raises Exception: Airflow refused the request.
    """
    from airflow.sdk.execution_time.hitl import update_hitl_detail_response
    from asgiref.sync import sync_to_async

    try:
        await sync_to_async(update_hitl_detail_response)(
            ti_id=UUID(ti_id), chosen_options=list(answer.chosen), params_input=answer.params
        )
    except Exception as error:
        if _status(error) in {404, 409}:
            return False
        raise
    return True


def answer_of(question: Question, response: Mapping[str, Any]) -> Answer:
    """Return the answer from Airflow.

    :param question: the question.
    :param response: as Airflow resumes a task with it, or as :func:`read` returns it.
    """
    user, at = response.get("responded_by_user"), response.get("responded_at")
    return question.answered_in_airflow(
        response["chosen_options"],
        response.get("params_input") or {},
        None if user is None else user.get("name") or user.get("id"),
        at if isinstance(at, str) else at.isoformat() if at is not None else "",
    )


def _status(error: Exception) -> int | None:
    """Return the HTTP status behind an error of Airflow's, which says it only in the details of one that is general."""
    detail = getattr(getattr(error, "error", None), "detail", None)
    return detail.get("status_code") if isinstance(detail, dict) else None
