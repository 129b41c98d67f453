"""A session, a command and an approval for each moment of the kill matrix; each holds at its moment until released."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from airflow.sdk import dag

from helmr_provider.operators.approval import HelmrApprovalOperator
from helmr_provider.operators.session import HelmrStartSessionOperator
from helmr_provider.operators.workspace import HelmrExecOperator

HELD_SECONDS = 400


def conf(*names: str) -> str:
    """Return the template of a member of the DAG run's configuration."""
    return "{{ dag_run.conf" + "".join(f"['{name}']" for name in names) + " }}"


class Held:
    """Holds the first process that reaches the moment, until the test releases all."""

    moment: str

    def _submit(self, context: Any) -> Any:
        self._hold("before_start", context)
        return super()._submit(context)  # type: ignore[misc]

    def _return_or_defer(self, context: Any, *args: Any, **kwargs: Any) -> Any:
        self._hold("before_deferral", context)
        return super()._return_or_defer(context, *args, **kwargs)  # type: ignore[misc]

    def defer(self, **kwargs: Any) -> NoReturn:
        """Hold when the deferral is decided, and Airflow does not know of it."""
        from airflow.sdk import get_current_context

        try:
            super().defer(**kwargs)  # type: ignore[misc]
        finally:
            self._hold("during_deferral", get_current_context())
        raise AssertionError("a deferral raises")

    def execute_complete(self, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Hold with the result, before Airflow has it."""
        result = super().execute_complete(context, *args, **kwargs)  # type: ignore[misc]
        self._hold("resumed", context)
        return result

    def _hold(self, moment: str, context: Any) -> None:
        if moment != self.moment:
            return
        folder = Path(context["dag_run"].conf["folder"])
        held = folder / f"{context['ti'].task_id}.held"
        if held.exists():
            return
        held.touch()
        give_up = time.monotonic() + HELD_SECONDS
        while not (folder / "released").exists() and time.monotonic() < give_up:
            time.sleep(0.05)


class HeldSession(Held, HelmrStartSessionOperator):
    """A session whose run ends when its token is completed."""


class HeldCommand(Held, HelmrExecOperator):
    """A command that ends when its file exists."""


class HeldApproval(Held, HelmrApprovalOperator):
    """A question."""


@dag(
    schedule=None,
    # A fault can cost several tries of what it did not hit, too: an API server whose database is away answers nobody.
    default_args={"retries": 8, "retry_delay": timedelta(0)},
    max_active_tasks=64,
    max_active_runs=64,
)
def kill_matrix() -> None:
    """All cells of one fault."""
    for moment in ("before_start", "before_deferral", "during_deferral", "deferred", "ended", "resumed"):
        # Of this pool, the test takes all slots away when the tasks are deferred: then they end and do not resume.
        pool = "held" if moment == "ended" else "default_pool"
        session = HeldSession(
            task_id=f"session.{moment}",
            task="gated",
            payload={"token_id": conf("tokens", moment)},
            deferrable=True,
            pool=pool,
        )
        command = HeldCommand(
            task_id=f"command.{moment}",
            workspace_id=conf("workspaces", moment),
            command=f"while [ ! -e {conf('folder')}/{moment}.gate ]; do sleep 0.1; done; echo done",
            result="stdout",
            deferrable=True,
            pool=pool,
        )
        approval = HeldApproval(task_id=f"approval.{moment}", subject=f"Go on? ({moment})", pool=pool)
        for each in (session, command, approval):
            each.moment = moment


kill_matrix()
