"""What a task instance's failure says, and whether trying again can help."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
)

from helmr_provider._common.cancel_reasons import OURS
from helmr_provider.client.errors import HelmrApiError, HelmrConfigError, HelmrError, PayloadValidationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.events import EventRecord
    from helmr_provider.client.models.runs import RunSnapshot

DEFAULT_MAX_RESULT_BYTES: Final = 48 * 1024
UNSUCCESSFUL: Final = ("failed", "cancelled", "expired")

_STDERR_LINES: Final = 15
_STDERR_CHARACTERS: Final = 2000
_DETAIL_CHARACTERS: Final = 1000
# Events can only be read from the first on; a talkative run has many.
_LOOK_UP_SECONDS: Final = 10.0


class IdentityError(Exception):
    """The session that belongs to a task instance cannot be used or found.

    :param message: the cause and the remedy.
    :param permanent: whether trying again is pointless.
    """

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


@contextmanager
def translate_errors(doing: str, helmr_conn_id: str) -> Iterator[None]:
    """Translate errors of the client into Airflow's exceptions: fail permanently, or try again.

    :param doing: the attempt, in words that follow "Could not".
    :param helmr_conn_id: the connection that it is attempted with.
    :raises AirflowFailException: the same attempt would fail again: connection, credential, scope, request.
    :raises AirflowException: another attempt may succeed.
    """
    try:
        yield
    except (HelmrError, IdentityError, AirflowNotFoundException) as error:
        message = f"Could not {doing} (connection {helmr_conn_id!r}): {one_line(error)}"
        if is_permanent(error):
            # One clear line instead of a chain of tracebacks: there is nothing to debug, but something to change.
            raise AirflowFailException(message) from None
        raise AirflowException(message) from error


def one_line(error: Exception) -> str:
    """Return the text of an error without line breaks."""
    return " ".join(str(error).split())


def is_permanent(error: Exception) -> bool:
    """Say whether the same attempt would fail in the same way again.

    :param error: an error of the client, of the identity, or of the lookup of the connection.
    """
    if isinstance(error, IdentityError):
        return error.permanent
    if isinstance(error, HelmrApiError):
        # 202: an equal start is still being served (contract/behaviour.md §3.3).
        return not error.retryable and error.status != 202
    return isinstance(error, (HelmrConfigError, PayloadValidationError, AirflowNotFoundException))


def unsuccessful_statuses(fail_on: str | Collection[str]) -> tuple[str, ...]:
    """Return the statuses that fail a task.

    :param fail_on: the operator's parameter; one status or several.
    :raises ValueError: a status is not one of a run that ended without success.
    """
    statuses = (fail_on,) if isinstance(fail_on, str) else tuple(fail_on)
    if unknown := [status for status in statuses if status not in UNSUCCESSFUL]:
        raise ValueError(f"fail_on takes {', '.join(UNSUCCESSFUL)}, but not {', '.join(map(repr, unknown))}")
    return statuses


def small_enough(value: Any, what: str, *, max_bytes: int | None) -> Any:
    """Return the value if it may become an XCom.

    :param value: any JSON value.
    :param what: its name, for people.
    :param max_bytes: largest size as JSON; ``None`` for no limit.
    :raises AirflowFailException: it is larger.
    """
    if max_bytes is not None:
        size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
        if size > max_bytes:
            raise AirflowFailException(
                f"{what} has {size} bytes as JSON, more than max_result_bytes={max_bytes}. "
                "Write it to a path or object storage with result_to, raise max_result_bytes if your XCom backend can "
                "hold it, or set do_xcom_push=False if no task reads it."
            )
    return value


def run_failure(client: HelmrClient, run: RunSnapshot, *, url: str, ours: bool = False) -> AirflowException:
    """Return the exception for a run that ended without success; it says why.

    :param client: reads the reasons; best effort, an outage here only shortens the message.
    :param run: the run, ended.
    :param url: its page.
    :param ours: whether this task instance itself has cancelled it.
    """
    message, cancelled_by_airflow = _explain(client, run, url=url, ours=ours)
    if run.status == "cancelled" and not cancelled_by_airflow:
        return AirflowFailException(message)
    return AirflowException(message)


def explain(client: HelmrClient, run: RunSnapshot, *, url: str, ours: bool = False) -> str:
    """Describe how a run ended without success: status, cause, last lines of stderr, and the run's address.

    :param client: reads the reasons.
    :param run: the run, ended.
    :param url: its page.
    :param ours: whether this task instance itself has cancelled it.
    """
    return _explain(client, run, url=url, ours=ours)[0]


def _explain(client: HelmrClient, run: RunSnapshot, *, url: str, ours: bool) -> tuple[str, bool]:
    """Return the description, and whether Airflow has cancelled the run: this process, or another one before."""
    event = _last_event(client, run)
    attributes: dict[str, Any] = event.attributes if event is not None and isinstance(event.attributes, dict) else {}
    ours = ours or attributes.get("reason") in OURS
    if run.status == "failed":
        text = f"failed{_because(attributes)}"
        process = [f"attempt {run.attempt_number}"] if run.attempt_number else []
        process += [f"exit code {run.exit_code}"] if run.exit_code is not None else []
        text += f" ({', '.join(process)})" if process else ""
    elif run.status == "cancelled":
        by = "because the Airflow task was ended" if ours else "by another client, not by this task"
        text = f"was cancelled {by}{_text(': ', attributes.get('reason'))}"
    elif run.status == "expired":
        text = "expired: it stayed queued for longer than its ttl" + _text(" of ", attributes.get("ttl"))
    else:
        text = f"ended as {run.status!r}"
    lines = [f"Helmr run {run.id} of session {run.session_id} {text}."]
    if stderr := _stderr(client, run):
        lines += ["Last lines of stderr:", *(f"  {line}" for line in stderr)]
    return "\n".join([*lines, f"See {url}"]), ours


def _because(attributes: dict[str, Any]) -> str:
    kind, detail = attributes.get("failure_kind"), attributes.get("detail")
    if isinstance(detail, dict) and isinstance(detail.get("message"), str):
        detail = detail["message"]
    elif detail is not None and not isinstance(detail, str):
        detail = json.dumps(detail, ensure_ascii=False)
    # A run whose wait was lost says so beside the detail (contract/behaviour.md §7.1).
    return _text(": ", kind) + _text(": ", detail or attributes.get("message") or attributes.get("reason"))


def _text(before: str, value: Any) -> str:
    return f"{before}{value[:_DETAIL_CHARACTERS]}" if isinstance(value, str) and value else ""


# What tells most comes first. Why a run was cancelled while it was executed stands in the request only: the event that
# follows when the worker has released it gives a reason of its own (recordings 366 and 367).
_CAUSES: Final = {
    "failed": ("run.dead_lettered", "run.failed"),
    "cancelled": ("run.cancel_requested", "run.cancelled"),
    "expired": ("run.expired",),
}


def _last_event(client: HelmrClient, run: RunSnapshot) -> EventRecord | None:
    kinds = _CAUSES.get(run.status, ())
    found: dict[str, EventRecord] = {}
    give_up = time.monotonic() + _LOOK_UP_SECONDS
    try:
        for record in client.runs.events.records(run.id, page_size=200):
            if record.kind in kinds:
                found[record.kind] = record
            if time.monotonic() > give_up:
                break
    except HelmrError:
        pass
    return next((found[kind] for kind in kinds if kind in found), None)


def _stderr(client: HelmrClient, run: RunSnapshot) -> list[str]:
    try:
        text = client.runs.logs.retrieve(run.id).stderr
    except HelmrError:
        return []
    return text[-_STDERR_CHARACTERS:].strip().splitlines()[-_STDERR_LINES:]
