"""The few calls of Airflow's REST API that the demo and the tests drive it with."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from typing import Any

from dev.processes import StackError, poll

ENDED = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})


class AirflowApiError(StackError):
    """Airflow answered with an error status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"Airflow's API answered {status}: {text[:500]}")
        self.status = status
        # SQLite, to which all of Airflow's programs write, was locked for longer than they wait: nothing was changed.
        self.of_the_database = status == 500 and '"Database error"' in text


class AirflowApi:
    """One Airflow, reached over its public REST API as the simple auth manager's anonymous admin."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._token: str | None = None
        # A proxy of the environment must not come between us and the loopback interface.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def call(self, method: str, path: str, body: Any = None, **query: str | int) -> Any:
        """Make one call below ``/api/v2`` (or to any absolute path) and return its JSON."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if not path.startswith("/auth"):
            if self._token is None:
                self._token = str(self.call("GET", "/auth/token")["access_token"])
            headers["Authorization"] = f"Bearer {self._token}"
            path = f"/api/v2{path}"
        url = self.url + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        for last in (False, False, True):
            try:
                return self._answer(request)
            except AirflowApiError as error:
                if last or not error.of_the_database:
                    raise
        raise AssertionError("the last try returns or raises")

    def page(self, path: str) -> bytes:
        """Return a page of Airflow as a user sees it, error pages too."""
        if self._token is None:
            self._token = str(self.call("GET", "/auth/token")["access_token"])
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self._token}"})
        try:
            with self._open(request, timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            return error.read()

    def _answer(self, request: urllib.request.Request) -> Any:
        try:
            with self._open(request, timeout=30) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise AirflowApiError(error.code, error.read().decode(errors="replace")) from error
        return json.loads(text) if text else None

    def health(self) -> dict[str, str]:
        """Return the status by component, empty while the API server does not answer."""
        try:
            parts = self.call("GET", "/monitor/health")
        except (OSError, AirflowApiError):
            return {}
        return {name: str(part.get("status")) for name, part in parts.items()}

    def import_errors(self) -> list[str]:
        """Return what kept DAG files from being imported."""
        return [f"{e['filename']}: {e['stack_trace']}" for e in self.call("GET", "/importErrors")["import_errors"]]

    def wait_for_dag(self, dag_id: str, *, seconds: float = 60) -> None:
        """Wait until the DAG was parsed; an import error of any file ends the wait immediately."""

        def there() -> bool:
            if errors := self.import_errors():
                raise StackError("a DAG file can't be imported: " + errors[0])
            try:
                self.call("GET", f"/dags/{dag_id}")
            except AirflowApiError as error:
                if error.status == 404:
                    return False
                raise
            return True

        poll(there, seconds=seconds, waiting_for=f"DAG {dag_id} to be parsed")

    def trigger(self, dag_id: str, **conf: Any) -> str:
        """Trigger the DAG and return the id of its new run."""
        # Named here, as Airflow would: a call that is made again begins no second one.
        run_id = f"manual__{datetime.now(UTC).isoformat()}"
        try:
            self.call("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf, "dag_run_id": run_id})
        except AirflowApiError as error:
            # The name is unique, so the call before must have begun it.
            if error.status != 409:
                raise
        return run_id

    def dag_run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return the DAG run."""
        run: dict[str, Any] = self.call("GET", f"/dags/{dag_id}/dagRuns/{_quote(run_id)}")
        return run

    def delete_dag_run(self, dag_id: str, run_id: str) -> None:
        """Delete a DAG run with its task instances, as a person does in the UI."""
        self.call("DELETE", f"/dags/{dag_id}/dagRuns/{_quote(run_id)}")

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Return the task instances of a DAG run by task id, one of those that are mapped."""
        return {each["task_id"]: each for each in self._task_instances(dag_id, run_id)}

    def mapped_tasks(self, dag_id: str, run_id: str, task_id: str) -> list[dict[str, Any]]:
        """Return the instances of a mapped task by map index; one of index -1 before it is expanded."""
        instances = [each for each in self._task_instances(dag_id, run_id) if each["task_id"] == task_id]
        return sorted(instances, key=lambda each: int(each["map_index"]))

    def _task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        found = self.call("GET", f"/dags/{dag_id}/dagRuns/{_quote(run_id)}/taskInstances", limit=100)
        return list(found["task_instances"])

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, *, map_index: int = -1) -> None:
        """Mark a task as a person does in the UI."""
        path = f"/dags/{dag_id}/dagRuns/{_quote(run_id)}/taskInstances/{task_id}"
        if map_index >= 0:
            path += f"/{map_index}"
        self.call("PATCH", path, {"new_state": state})

    def clear(self, dag_id: str, run_id: str, *task_ids: str, only_failed: bool = False) -> None:
        """Clear tasks of one DAG run as a person does in the UI, of every state, or those that have failed."""
        self.call(
            "POST",
            f"/dags/{dag_id}/clearTaskInstances",
            {
                "dag_run_id": run_id,
                "task_ids": list(task_ids),
                "dry_run": False,
                "only_failed": only_failed,
                "only_running": False,
                "reset_dag_runs": True,
            },
        )

    def question(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any] | None:
        """Return what a task asks under Required Actions, ``None`` when it asks nothing."""
        try:
            question: dict[str, Any] = self.call("GET", _question(dag_id, run_id, task_id))
        except AirflowApiError as error:
            if error.status == 404:
                return None
            raise
        return question

    def answer(self, dag_id: str, run_id: str, task_id: str, *options: str, **params: Any) -> None:
        """Answer under Required Actions as a person does in the UI."""
        self.call(
            "PATCH",
            _question(dag_id, run_id, task_id),
            {"chosen_options": list(options), "params_input": params},
        )

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Return an XCom's value, ``None`` when there is none."""
        path = f"/dags/{dag_id}/dagRuns/{_quote(run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        try:
            value = self.call("GET", path, deserialize="true")["value"]
        except AirflowApiError as error:
            if error.status == 404:
                return None
            raise
        return value

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        """Return the task's log of one try as text, one line an entry."""
        path = f"/dags/{dag_id}/dagRuns/{_quote(run_id)}/taskInstances/{task_id}/logs/{try_number}"
        content = self.call("GET", path, full_content="true").get("content") or []
        return "\n".join(each if isinstance(each, str) else json.dumps(each, default=str) for each in content)


def _question(dag_id: str, run_id: str, task_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{_quote(run_id)}/taskInstances/{task_id}/-1/hitlDetails"


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")
