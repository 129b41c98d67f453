"""Template fields: text whatever a template was rendered to, and each one an argument of its class."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from datetime import UTC, date, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, BaseOperator

import helmr_provider
from helmr_provider._common.template_fields import TemplateField, text, text_mapping, texts
from helmr_provider.operators.approval import HelmrApprovalOperator
from helmr_provider.operators.session import HelmrSendInputOperator, HelmrStartSessionOperator
from helmr_provider.operators.workspace import HelmrExecOperator
from helmr_provider.sensors.session import HelmrSessionOutputSensor

NOT_TEXT = {
    *("payload", "data", "message", "metadata", "retry", "form", "schedules", "assigned_users", "op_args", "op_kwargs"),
    *("priority", "after", "preview_only", "expires_at"),
    *("ttl", "max_duration", "timeout", "older_than", "older_than_when_full", "min_age"),
}
"""Fields that hold JSON, numbers, times or durations."""


def all_classes() -> list[type[Any]]:
    """Every operator, sensor and notifier of the provider."""
    found: dict[str, type[Any]] = {}
    for module in pkgutil.walk_packages(helmr_provider.__path__, "helmr_provider."):
        if module.name.split(".")[1] not in {"operators", "sensors", "decorators", "notifications"}:
            continue
        for each in vars(importlib.import_module(module.name)).values():
            if (
                inspect.isclass(each)
                and issubclass(each, (BaseOperator, BaseNotifier))
                and each.__module__.startswith("helmr_provider")
            ):
                found[f"{each.__module__}.{each.__qualname__}"] = each
    return [found[name] for name in sorted(found)]


def parameters(cls: type[Any]) -> set[str]:
    """The named arguments of a class's constructor and of those that it passes further ones on to."""
    names: set[str] = set()
    for base in cls.__mro__:
        if base.__module__.startswith("helmr_provider") or base.__name__ == "DecoratedOperator":
            init = vars(base).get("__init__")
            names |= set(inspect.signature(init).parameters) if init else set()
    return names


@pytest.mark.parametrize("cls", all_classes(), ids=lambda cls: cls.__name__)
def test_every_template_field_is_an_argument_and_text_unless_it_is_known_not_to_be(cls: type[Any]) -> None:
    fields = set(cls.template_fields)
    assert fields <= parameters(cls), "Airflow allows only arguments of the constructor as template fields"
    not_text = {name for name in fields if not isinstance(inspect.getattr_static(cls, name, None), TemplateField)}
    assert not_text <= NOT_TEXT, "declare them with TemplateField, or name them in NOT_TEXT"


def test_all_classes_are_found() -> None:
    names = {cls.__name__ for cls in all_classes()}
    assert {"HelmrStartSessionOperator", "HelmrTokenSensor", "HelmrNotifier", "HelmrSyncSchedulesOperator"} <= names
    assert len(names) > 25


def rendered(operator: Any, **context: Any) -> Any:
    operator.render_template_fields(context)
    return operator


@pytest.mark.parametrize("native", [True, False], ids=["native", "text"])
def test_rendered_text_stays_text(native: bool) -> None:
    with DAG("d", schedule=None, render_template_as_native_obj=native):
        start = HelmrStartSessionOperator(
            task_id="start",
            task="t",
            external_id="{{ 20260106 }}",
            concurrency_key="{{ day }}",
            helmr_queue="{{ flag }}",
            workspace_id="20260107",
            tags=["{{ 2026 }}", "b"],
        )
        send = HelmrSendInputOperator(
            task_id="send", session_id="{{ 7 }}", stream="{{ 8 }}", data=1, correlation_id="{{ 42 }}", content_type="1"
        )
        command = HelmrExecOperator(
            task_id="exec", workspace_id="1", command=["sleep", "0.5", "{{ 3 }}"], env={"N": "{{ 5 }}"}, stdin="{{ 6 }}"
        )
        listen = HelmrSessionOutputSensor(task_id="listen", external_id="{{ 9 }}", stream="10", correlation_id="11")
        ask = HelmrApprovalOperator(task_id="ask", subject="{{ 2026 }}", options=["{{ 1 }}", "{{ 2 }}"], rejections=())
    rendered(start, day=date(2026, 1, 6), flag=True)
    assert (start.external_id, start.concurrency_key, start.helmr_queue) == ("20260106", "2026-01-06", "True")
    assert (start.workspace_id, start.tags) == ("20260107", ["2026", "b"])
    rendered(send)
    assert (send.session_id, send.stream, send.correlation_id, send.content_type) == ("7", "8", "42", "1")
    rendered(command)
    assert command.command == ["sleep", "0.5", "3"]
    assert (command.workspace_id, command.env, command.stdin) == ("1", {"N": "5"}, "6")
    rendered(listen)
    assert (listen.external_id, listen.stream, listen.correlation_id) == ("9", "10", "11")
    rendered(ask)
    assert (ask.subject, ask.options) == ("2026", ["1", "2"])


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 1.10 }}", "external_id must be text, but is the float 1.1"),
        ("{{ [1] }}", "external_id must be text, but is of type list"),
        ("{{ {'a': 1} }}", "external_id must be text, but is of type dict"),
        ("{{ missing }}", "external_id must be text, but is of type .*Undefined"),
    ],
)
def test_what_has_no_single_text_is_refused_by_name(template: str, said: str) -> None:
    with DAG("d", schedule=None, render_template_as_native_obj=True):
        operator = HelmrStartSessionOperator(task_id="start", task="t", external_id=template)
    with pytest.raises(AirflowFailException, match=said):
        rendered(operator)


def test_items_without_text_are_refused_by_their_place() -> None:
    with pytest.raises(AirflowFailException, match=r"tags\[1\] must be text, but is None"):
        texts("tags", ["a", None])
    with pytest.raises(AirflowFailException, match=r"env\['A'\] must be text, but is of type dict"):
        text_mapping("env", {"A": {}})
    with pytest.raises(AirflowFailException, match="command must be text, but is of type dict"):
        texts("command", {})


def test_references_to_results_of_other_tasks_and_none_stay_as_they_are() -> None:
    with DAG("d", schedule=None):
        upstream = HelmrStartSessionOperator(task_id="start", task="t")
        output: Any = upstream.output
        downstream = HelmrSendInputOperator(task_id="send", session_id=output["session_id"], stream="s", data=1)
    assert downstream.upstream_task_ids == {"start"}
    assert downstream.correlation_id is None
    for value in (None, object(), "a", ""):
        assert text("x", value) is value


def test_a_number_or_time_of_the_author_is_text_from_the_start() -> None:
    operator = HelmrStartSessionOperator(task_id="start", task="t", external_id=20260106)  # type: ignore[arg-type]
    assert operator.external_id == "20260106"
    assert text("x", datetime(2026, 1, 6, tzinfo=UTC)) == "2026-01-06 00:00:00+00:00"
