"""A DAG that writes planted secrets to every place where Airflow stores something; the search must find them."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.triggers.file import FileTrigger
from airflow.sdk import BaseOperator, dag


def planted(place: str) -> str:
    """Put it together while the DAG runs, for Airflow keeps the source of this file, too."""
    return "hlmr" + f"_pat_planted_in_{place}"


class Careless(BaseOperator):
    """Log it, push it, render it, and wait with it for ever."""

    template_fields = ("rendered",)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rendered = "{{ 'hlmr' ~ '_pat_planted_in_rendered' }}"

    def execute(self, context: Any) -> None:
        self.log.info("careless: %s", planted("log"))
        context["ti"].xcom_push(key="careless", value=planted("xcom"))
        self.defer(trigger=FileTrigger(filepath=f"/nowhere/{planted('trigger')}"), method_name="never")


@dag(schedule=None, doc_md=planted("serialized"))
def careless() -> None:
    """Leave it everywhere."""
    Careless(task_id="work")


careless()
