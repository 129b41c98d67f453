"""Answer questions about Airflow 2's database, and mark and clear tasks, as a program of its own.

It reads one JSON object a line and answers with one: Airflow reads its settings when it is imported, so that pytest's
own process cannot do this for another database.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any


class Database:
    """What a test asks; each method is a question.

    Airflow's modules are imported by name: the type checker sees Airflow 3.
    """

    def __init__(self, dags: str) -> None:
        models, self._session = import_module("airflow.models"), import_module("airflow.utils.session").create_session
        self._serialized = import_module("airflow.models.serialized_dag").SerializedDagModel
        self._runs, self._instances, self._xcoms = models.DagRun, models.TaskInstance, models.XCom
        self._trigger_dag = import_module("airflow.api.common.trigger_dag").trigger_dag
        self._bag = models.DagBag(dags, read_dags_from_db=False, include_examples=False)

    def dags(self) -> int:
        """Count the DAGs that the scheduler knows."""
        with self._session() as session:
            return int(session.query(self._serialized).count())

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
        self._trigger_dag(dag_id, run_id=run_id, conf=conf)

    def task(self, dag_id: str, run_id: str) -> list[Any]:
        """Return state and try number."""
        with self._session() as session:
            query = session.query(self._instances).filter_by(dag_id=dag_id, run_id=run_id, task_id="work")
            found = query.one_or_none()
            return [None, 0] if found is None else [found.state, found.try_number]

    def value(self, dag_id: str, run_id: str) -> Any:
        """Return the task's result."""
        with self._session() as session:
            return self._xcoms.get_one(
                dag_id=dag_id, run_id=run_id, task_id="work", key="return_value", session=session
            )

    def mark(self, dag_id: str, run_id: str, state: str) -> None:
        with self._session() as session:
            self._bag.dags[dag_id].set_task_instance_state(task_id="work", run_id=run_id, state=state, session=session)

    def clear(self, dag_id: str, run_id: str) -> None:
        with self._session() as session:
            date = session.query(self._runs).filter_by(dag_id=dag_id, run_id=run_id).one().execution_date
            self._bag.dags[dag_id].clear(start_date=date, end_date=date, session=session)


def main() -> None:
    """Answer until the input ends."""
    # Whatever Airflow prints is not an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    database = Database(sys.argv[1])
    for line in sys.stdin:
        question, *arguments = json.loads(line)
        print(json.dumps(getattr(database, question)(*arguments)), file=answers, flush=True)


if __name__ == "__main__":
    main()
