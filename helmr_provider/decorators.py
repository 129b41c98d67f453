"""``@task.helmr_session``: a function that makes the payload becomes a task that runs a Helmr session with it.

The value that the function returns is the payload as it is. Airflow would infer ``multiple_outputs`` from annotations
and render templates in it; neither happens here, so that templates in untrusted data do not run.
"""

from __future__ import annotations

import asyncio
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from helmr_provider._sessions.session_spec import Payload
from helmr_provider.operators.session import HelmrStartSessionOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import ParamSpec

    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk.bases.decorator import Task as TaskFlowTask

    from helmr_provider.client import Task

    P = ParamSpec("P")

In = TypeVar("In")


class _HelmrSessionDecoratedOperator(DecoratedOperator, HelmrStartSessionOperator):
    """Start a session with the payload that a function returns.

    :param python_callable: the function.
    :param op_args: its positional arguments. (templated)
    :param op_kwargs: its keyword arguments. (templated)
    :param kwargs: as of :class:`HelmrStartSessionOperator`, but no ``payload``.
    """

    template_fields: Any = (*DecoratedOperator.template_fields, *HelmrStartSessionOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **HelmrStartSessionOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.helmr_session"
    # Shows the payload that the function has made.
    overwrite_rtif_after_execution = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if "payload" in kwargs:
            raise TypeError("@task.helmr_session takes no payload: the function returns it")
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)

    def execute(self, context: Context) -> Any:
        """Call the function for the payload, then start the session. Called in every try, but not after a deferral.

        :param context: of the task instance.
        """
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        payload = self.python_callable(*self.op_args, **arguments)
        if iscoroutine(payload):
            payload = asyncio.run(payload)
        if payload is None and not self._may_return_none:
            self.log.warning(
                "%s returned None, so the payload is null. Annotate it with '-> None' if that is intended.",
                self.python_callable.__name__,
            )
        # What the function makes of foreign data is sent as it is: rendering it would run templates that others wrote.
        self.payload = Payload.NONE if payload is None and self._takes_no_payload else payload
        # DecoratedOperator.execute() also searches the result for assets, which fails on Airflow 3.0.
        return HelmrStartSessionOperator.execute(self, context)

    @property
    def _may_return_none(self) -> bool:
        declared = getattr(self.python_callable, "__annotations__", {}).get("return", Payload.NONE)
        return self._takes_no_payload or declared in {None, "None"}

    @property
    def _takes_no_payload(self) -> bool:
        return not isinstance(self.task, str) and self.task.payload is None


@overload
def helmr_session_task(
    *, task: Task[In, Any], multiple_outputs: bool = ..., **kwargs: Any
) -> Callable[[Callable[P, In]], TaskFlowTask[P, Any]]: ...


@overload
def helmr_session_task(
    *, task: str, multiple_outputs: bool = ..., **kwargs: Any
) -> Callable[[Callable[P, Any]], TaskFlowTask[P, Any]]: ...


@overload
def helmr_session_task(
    python_callable: Callable[P, Any], *, task: str | Task[Any, Any], multiple_outputs: bool = ..., **kwargs: Any
) -> TaskFlowTask[P, Any]: ...


def helmr_session_task(
    python_callable: Callable[..., Any] | None = None, *, multiple_outputs: bool = False, **kwargs: Any
) -> Any:
    """Make a task that starts a session with the payload that the function returns, and returns the run's result.

    Airflow offers it as ``@task.helmr_session``; imported from here, type checkers know what the function must return.

    :param python_callable: the function, which may be asynchronous. Its result is sent unchanged; templates in it are
        not rendered. If it returns None without the annotation ``-> None``, the task logs a warning.
    :param task: id of the Helmr task, or a typed :class:`helmr_provider.client.Task`.
    :param multiple_outputs: whether the members of the run's output, a JSON object, become XComs of their own. It is
        never guessed from the function, whose result is the payload.
    :param kwargs: as of :class:`~helmr_provider.operators.session.HelmrStartSessionOperator`.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_HelmrSessionDecoratedOperator,
        **kwargs,
    )
