"""The worker: leases queued runs and executes their tasks, each as one asyncio task.

Recovery after a restart (contract/behaviour.md section 6):

- a run that was `queued` is executed, one that was `waiting` keeps waiting; when its wait ends it is resumed by
  replay (see :mod:`helmr_provider.local.execution.context`);
- a run that was `running` lost its execution: `run.execution_lost`, then the attempt has failed, and the run is retried
  with the next `attempt_number` or has failed, as its retry policy says;
- a run that was being cancelled is released.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import SECOND
from helmr_provider.local.common.jsontext import jsonb, loads, plain
from helmr_provider.local.definitions.tasks import TaskFailure
from helmr_provider.local.execution.context import TaskContext
from helmr_provider.local.state import logs, queueing, runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helmr_provider.local._core import Core
    from helmr_provider.local.definitions.tasks import TaskDefinition
    from helmr_provider.local.storage.database import Row

_LONGEST_PAUSE = 3600.0
_NEVER = 2**63
_TRY_AGAIN = 1.0
_STOP_SECONDS = 1.0
_LEFT_A_WAIT = "the task left a wait before it ended: a run waits for one thing at a time; use the wait's own timeout"
_log = logging.getLogger(__name__)


class Worker:
    """Executes the runs of one control plane.

    :param core: the control plane's state.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._executions: dict[str, _Execution] = {}
        self._ended: dict[str, _Execution] = {}
        # No execution's limit is earlier. It may be that of one that has ended since.
        self._limits_from = _NEVER
        self._paused = False
        self._stopping = False

    def recover(self) -> None:
        """Fail or release the runs that a worker held when the process ended."""
        for run in self._core.db.all("SELECT * FROM runs WHERE execution IN ('executing', 'pending_cancel')"):
            runs.lose(self._core, run)

    async def dispatch(self) -> None:
        """Execute queued runs as they come, until cancelled."""
        while True:
            try:
                self._release_ended()
                if not self._paused:
                    self._lease_all()
                pause = _TRY_AGAIN if self._ended else self._pass_limits()
            except Exception:  # noqa: BLE001 - a full disk must not end the execution of all later runs
                _log.exception("a round of the worker failed")
                pause = _TRY_AGAIN
            await self._core.notifier.wait("dispatch", pause)

    def pause(self) -> None:
        """Lease nothing more: new, retried and resumed runs stay `queued`."""
        self._paused = True

    def resume(self) -> None:
        """Lease again."""
        self._paused = False
        self._core.notifier.notify("dispatch")

    async def stop(self) -> None:
        """Drop all executions where they are, as the end of the process would.

        A task may ignore its cancellation; its context then refuses every call.
        """
        self._stopping = True
        tasks = [execution.drop() for execution in self._executions.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_SECONDS)

    def _pass_limits(self) -> float:
        """End the attempts whose time is over; return the seconds until the next one's."""
        now = self._core.clock.now()
        if now >= self._limits_from:
            self._limits_from = _NEVER
            for execution in list(self._executions.values()):
                if execution.limit_at is None:
                    continue
                if execution.limit_at <= now:
                    execution.pass_limit()
                else:
                    self._limits_from = min(self._limits_from, execution.limit_at)
        return min(_LONGEST_PAUSE, self._core.clock.seconds_until(self._limits_from))

    def _lease_all(self) -> None:
        places = queueing.Places(self._core)
        for run in queueing.candidates(self._core, places, self._core.clock.now()):
            group = queueing.group_of(run)
            if not places.free(group):
                continue
            held = self._executions.get(run["id"])
            # The execution of an earlier attempt must end before the next attempt begins.
            if held is not None and (held.waiting is None or held.attempt != run["attempt_number"]):
                continue
            with self._core.db.transaction():
                if self._cannot_start(run) or not self._core.workspaces.acquire(run):
                    continue
                leased = runs.lease(self._core, run)
            places.take(group)
            if held is not None:
                held.resume()
            else:
                held = self._execute(leased)
            self._limits_from = min(self._limits_from, held.limit_at or self._limits_from)

    def _cannot_start(self, run: Row) -> bool:
        """Fail a run whose workspace it can never hold again; tell whether it was."""
        workspace = runs.workspace_of(self._core, run)
        if workspace["state"] == "recovery_required":
            runs.fail_for_workspace(self._core, runs.reread(self._core, run["id"]), workspace["id"], None)
            return True
        if run["parked_version_id"] not in (None, workspace["current_version_id"]):
            runs.fail_resume(self._core, runs.reread(self._core, run["id"]), workspace)
            return True
        return False

    def _execute(self, run: Row) -> _Execution:
        execution = _Execution(self._core, run)
        self._executions[run["id"]] = execution
        execution.task.add_done_callback(lambda _: self._executed(run["id"], execution))
        return execution

    def _executed(self, run_id: str, execution: _Execution) -> None:
        if self._executions.get(run_id) is execution:
            del self._executions[run_id]
        failure = None if execution.task.cancelled() else execution.task.exception()
        if failure is not None:
            _log.error("run %s could not be executed", run_id, exc_info=failure)
        if not self._stopping:
            self._ended[run_id] = execution
            self._core.notifier.notify("dispatch")

    def _release_ended(self) -> None:
        """Record the ends that are not recorded yet; what fails, on a full disk for example, is repeated later."""
        for run_id, execution in list(self._ended.items()):
            execution.release()
            self._core.workspaces.release(run_id)
            del self._ended[run_id]

    def cancel(self, run_id: str) -> None:
        """Stop the execution of a run, if it is executing."""
        execution = self._executions.get(run_id)
        if execution is not None:
            execution.task.cancel()


class _Execution:
    """One attempt of one run, from its lease to its end, its waits included."""

    def __init__(self, core: Core, run: Row) -> None:
        self._core = core
        self._run_id: str = run["id"]
        self.attempt: int = run["attempt_number"]
        self.waiting: asyncio.Future[None] | None = None
        self.limit_at: int | None = None
        self._limit_passed = False
        self._dropped = False
        self._context = TaskContext(core, run, self._suspended)
        self.task = asyncio.create_task(self._attempt(self._context, run), name=f"run {run['id']}")
        self._start_limit(run)

    def resume(self) -> None:
        """Wake the coroutine: its wait has an outcome and the run is leased again."""
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)
        self.waiting = None
        self._start_limit(runs.reread(self._core, self._run_id))

    def drop(self) -> asyncio.Task[None]:
        """Stop the coroutine and ignore what it still does. Return its task."""
        self._dropped = True
        self._context.drop()
        self._stop_limit()
        self.task.cancel()
        return self.task

    def release(self) -> None:
        """Give the run back after the coroutine has ended, however it did."""
        self._stop_limit()
        run = runs.reread(self._core, self._run_id)
        if run["attempt_number"] != self.attempt or run["execution"] == "finished":
            return
        if run["execution"] == "pending_cancel":
            runs.release(self._core, run)
        elif self._limit_passed:
            detail = {"message": "run exceeded max duration", "limit_seconds": run["max_duration_us"] // SECOND}
            runs.fail(self._core, run, "max_duration", detail)
        elif run["execution"] == "executing":
            runs.fail(self._core, run, "worker_failed", {"message": "the task gave up without a result"})
        elif run["execution"] == "waiting" and not self._dropped:
            runs.fail(self._core, run, "worker_failed", {"message": _LEFT_A_WAIT})

    async def _attempt(self, context: TaskContext, run: Row) -> None:
        definition: TaskDefinition | None = self._core.deployment.tasks.get(run["task_id"])
        if definition is None:
            detail = {"message": f"task {run['task_id']} is not deployed any more"}
            runs.fail(self._core, run, "task_not_found", detail)
            return
        try:
            result = await definition.function(context, plain(loads(run["payload"])))
            output = jsonb(result)
            await context.commit_workspace()
        except TaskFailure as failure:
            self._failed(failure.failure_kind, failure.detail, failure.exit_code)
        except SystemExit as leaving:
            self._exited(leaving)
        except Exception as error:  # noqa: BLE001 - any error of a task is its run's failure
            self._log_traceback(error)
            self._failed("task_failed", {"message": f"{type(error).__name__}: {error}", "exit_code": 1}, 1)
        else:
            current = self._still_mine()
            if current is not None:
                runs.succeed(self._core, current, output)

    def _exited(self, leaving: SystemExit) -> None:
        """Take `sys.exit` as the end of the task's process: status 0 is a success without output."""
        current = self._still_mine()
        if current is None:
            return
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if code:
            runs.fail(self._core, current, "task_failed", {"exit_code": code}, code)
        else:
            runs.succeed(self._core, current, None)

    def _failed(self, failure_kind: str, detail: Mapping[str, Any], exit_code: int | None) -> None:
        current = self._still_mine()
        if current is not None:
            runs.fail(self._core, current, failure_kind, detail, exit_code)

    def _log_traceback(self, error: Exception) -> None:
        current = self._still_mine()
        if current is not None:
            # The first frame is this module's own call, which says nothing to the task's author.
            frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
            text = "".join(traceback.format_exception(type(error), error, frames))
            logs.append(self._core, current, "stderr", text.encode("utf-8", "replace"))

    def _still_mine(self) -> Row | None:
        if self._dropped or self._limit_passed:
            return None
        run = runs.reread(self._core, self._run_id)
        return run if run["attempt_number"] == self.attempt and run["execution"] == "executing" else None

    def _suspended(self) -> asyncio.Future[None]:
        self._stop_limit()
        self.waiting = asyncio.get_running_loop().create_future()
        return self.waiting

    def _start_limit(self, run: Row) -> None:
        self.limit_at = self._core.clock.now() + run["max_duration_us"] - run["active_us"]

    def _stop_limit(self) -> None:
        self.limit_at = None

    def pass_limit(self) -> None:
        """Stop the coroutine: the attempt's time is over."""
        self._stop_limit()
        self._limit_passed = True
        self.task.cancel()
