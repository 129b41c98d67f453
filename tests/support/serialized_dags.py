"""DAGs in the form in which Airflow stores them."""

from __future__ import annotations

from typing import Any


def stored_form(dag: Any) -> Any:
    """Return the DAG as Airflow stores it."""
    from airflow.serialization import serialized_objects

    # Airflow 3 has given it another name.
    names = ("DagSerialization", "SerializedDAG")
    serializer: Any = next(vars(serialized_objects)[name] for name in names if name in vars(serialized_objects))
    return serializer.to_dict(dag)
