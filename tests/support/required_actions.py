"""Airflow's side of a question, as far as tasks and triggers see it: what they ask, and people who answer."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from tests.support.task_attempts import Try


def _connection(conn_id: str) -> Any:
    """Return a connection of the environment: some versions of Airflow ask the supervisor for these, too."""
    from airflow.sdk.execution_time.comms import ConnectionResult

    kept = json.loads(os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"])
    return ConnectionResult(conn_id=conn_id, **{**kept, "extra": json.dumps(kept["extra"])})


class RequiredActions:
    """Takes the messages that Airflow's supervisors take, and keeps the rows that Airflow keeps."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.down = False

    @classmethod
    def of(cls, monkeypatch: pytest.MonkeyPatch) -> RequiredActions:
        made = cls()
        runner = import_module("airflow.sdk.execution_time.task_runner")
        monkeypatch.setattr(runner, "SUPERVISOR_COMMS", made, raising=False)
        return made

    def send(self, msg: Any) -> Any:
        ti_id = str(getattr(msg, "ti_id", ""))
        if self.down and ti_id:
            raise self._error(500)
        match type(msg).__name__:
            case "CreateHITLDetailPayload":
                row = self.rows.setdefault(ti_id, msg.model_dump(exclude={"ti_id", "type"}))
                row.update(chosen_options=None, params_input={}, responded_at=None, responded_by=None)
                return None
            case "GetHITLDetailResponse":
                return self._response(ti_id)
            case "UpdateHITLDetail":
                if self.rows[ti_id]["responded_at"] is not None:
                    raise self._error(409)
                self._respond(ti_id, msg.chosen_options, msg.params_input, None)
                return self._response(ti_id)
            case "GetConnection":
                return _connection(msg.conn_id)
            case "MaskSecret":
                return None
            case other:
                raise AssertionError(f"unexpected message {other}")

    def row(self, attempt: Try) -> dict[str, Any]:
        """Return the row of the question."""
        return self.rows[str(attempt.ti.id)]

    def answer(self, attempt: Try, *options: str, by: str = "ada", **params: Any) -> dict[str, Any]:
        """Answer, and return what Airflow 3.3 resumes the task with."""
        ti_id = str(attempt.ti.id)
        assert self.rows[ti_id]["responded_at"] is None, "Airflow refuses a second answer"
        self._respond(ti_id, options, params, {"id": by, "name": by})
        row = self.rows[ti_id]
        return {
            "chosen_options": row["chosen_options"],
            "params_input": row["params_input"],
            "responded_at": row["responded_at"],
            "responded_by_user": row["responded_by"],
            "timedout": False,
        }

    def clear(self, attempt: Try) -> None:
        """Forget the row, as a clear and a retry do: the task instance gets another id."""
        del self.rows[str(attempt.ti.id)]

    def _respond(self, ti_id: str, options: Any, params: Any, by: Any) -> None:
        self.rows[ti_id].update(
            chosen_options=list(options), params_input=dict(params), responded_at=datetime.now(UTC), responded_by=by
        )

    def _response(self, ti_id: str) -> Any:
        from airflow.sdk.api.datamodels._generated import HITLDetailResponse, HITLUser

        if ti_id not in self.rows:
            raise self._error(404)
        row = self.rows[ti_id]
        by = row["responded_by"]
        return HITLDetailResponse(
            response_received=row["responded_at"] is not None,
            responded_by_user=None if by is None else HITLUser(**by),
            responded_at=row["responded_at"],
            chosen_options=row["chosen_options"] or [],
            params_input=row["params_input"],
        )

    def _error(self, status: int) -> Exception:
        from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse

        return AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": status}))
