"""Base class of the triggers: how they are stored, when they give up, and what a kill ends."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from helmr_provider._common.cleanup import clean_up_async
from helmr_provider._common.errors import one_line
from helmr_provider._common.task_state import task_state
from helmr_provider._common.versions import AIRFLOW_V_3_3_PLUS
from helmr_provider.client.errors import HelmrAuthError, HelmrTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from helmr_provider.client import AsyncHelmrClient

KWARGS_VERSION: Final = 1
EVENT_SCHEMA: Final = 1

# States of a deferred task before Airflow 3.3 that only a user's fail, success or clear brings about; the others are
# passed through when the task resumes, too.
_USERS_DOING: Final = frozenset({"failed", "success", "skipped", "removed", None})

# The event loop holds tasks weakly; a kill must outlive the trigger that asked for it.
_kills: set[asyncio.Task[None]] = set()


class HelmrTrigger(BaseTrigger):
    """Wait for something in Helmr; one event, then the end.

    The arguments of a subclass's ``__init__`` are its stored form: each becomes an attribute of the same name, and
    those at their default are not stored. They hold ids only, they are only ever added, and always with a default: a
    task may be deferred by one release and resumed by another.

    :param helmr_conn_id: Airflow connection of the control plane.
    :param deadline: when to give up, in seconds since the epoch; absolute, because a trigger may start many times.
    :param version: version of the stored form.
    """

    def __init__(self, *, helmr_conn_id: str, deadline: float | None = None, version: int = KWARGS_VERSION) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's class is not annotated
        self.helmr_conn_id = helmr_conn_id
        self.deadline = deadline
        self.version = version
        self._fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to build this trigger from again."""
        return stored_form(self)

    @property
    def kills(self) -> bool:
        """Whether a killed task ends something in Helmr."""
        return False

    @property
    def left_over(self) -> str:
        """What continues when :meth:`kill` fails, and how to end it."""
        return "nothing."

    @property
    def ids(self) -> Mapping[str, str | int]:
        """What every event says besides how the wait ended: ids, and how far something was read."""
        return {}

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> None:
        """Wait; returning means that the wait was successful.

        :param client: the triggerer's shared client.
        :param remaining: seconds left until the deadline; ``None`` without one.
        :raises HelmrTimeoutError: the deadline was reached.
        """
        raise NotImplementedError

    async def kill(self, client: AsyncHelmrClient) -> None:
        """End in Helmr what the killed task owns.

        :param client: the triggerer's shared client.
        """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire the one event: ``ended``, ``timeout`` with the deadline, or ``error`` when the wait cannot continue."""
        event = {"schema": EVENT_SCHEMA, **await self._outcome(), **self.ids}
        # Airflow may call on_kill when it has handled the event; by then nothing is left that may be killed.
        self._fired = True
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]  # Airflow's class is not annotated

    async def on_kill(self) -> None:
        """Kill, when a user has failed, cleared or completed the deferred task (Airflow 3.3 and later)."""
        await self._kill(unless_deferred=True)

    async def cleanup(self) -> None:
        """Kill, before Airflow 3.3, when the task's state shows that a user has ended it."""
        if not AIRFLOW_V_3_3_PLUS and not self._past_deadline():
            await self._kill(unless_deferred=False)

    async def _outcome(self) -> dict[str, Any]:
        if self._past_deadline():
            return self._timed_out()
        try:
            try:
                await self._watch_shared()
            except HelmrAuthError:
                # The shared client can be older than the key. It is retired now; the next one fetches the connection.
                await self._watch_shared()
        except HelmrTimeoutError:
            return self._timed_out()
        except Exception as error:  # noqa: BLE001 - the event names it, and the log has it
            # A trigger that ends without an event fails its task with a traceback that explains nothing. The text stays
            # in the task's log: an event holds ids only.
            name, reason = type(error).__name__, one_line(error)
            self.log.error("Waiting on connection %s is over: %s: %s", self.helmr_conn_id, name, reason)  # noqa: TRY400 - no traceback in a user's log
            return {"status": "error", "error": name}
        return {"status": "ended"}

    def _timed_out(self) -> dict[str, Any]:
        # ``dag.test()`` hands over nothing but the event.
        return {"status": "timeout", "deadline": self.deadline}

    async def _watch_shared(self) -> None:
        from helmr_provider.triggers._shared_client import shared_client

        async with shared_client(self.helmr_conn_id) as client:
            await self.watch(client, remaining=None if self.deadline is None else self.deadline - time.time())

    def _past_deadline(self) -> bool:
        return self.deadline is not None and time.time() >= self.deadline

    async def _kill(self, *, unless_deferred: bool) -> None:
        if self._fired or not self.kills:
            return
        # Airflow cancels on_kill about a second after it began, however long it may take by configuration.
        task = asyncio.ensure_future(self._kill_if_meant(unless_deferred=unless_deferred))
        _kills.add(task)
        task.add_done_callback(_kills.discard)
        await asyncio.shield(task)

    async def _kill_if_meant(self, *, unless_deferred: bool) -> None:
        from helmr_provider.triggers._shared_client import shared_client

        try:
            meant = await self._is_meant(unless_deferred=unless_deferred)
        except Exception:
            self.log.warning("The state of the task is not known", exc_info=True)
            meant = unless_deferred
        if not meant:
            return

        async def kill() -> None:
            async with shared_client(self.helmr_conn_id) as client:
                await self.kill(client)

        await clean_up_async(kill, log=self.log, left_over=self.left_over)

    async def _is_meant(self, *, unless_deferred: bool) -> bool:
        """Tell whether a user has ended the deferred task."""
        state = await self._task_state()
        # on_kill is also called when the trigger moves to another triggerer; then the task is deferred still.
        return state != "deferred" if unless_deferred else state in _USERS_DOING

    async def _task_state(self) -> str | None:
        """Ask Airflow for the state of the deferred task; ``None`` means that it was cleared."""
        from asgiref.sync import sync_to_async

        if (ti := self.task_instance) is None:
            raise LookupError("this trigger does not belong to a task")
        return await sync_to_async(task_state)(ti)


def stored_form(trigger: Any) -> tuple[str, dict[str, Any]]:
    """Return the class path of a trigger, and those of its arguments that are not at their default.

    :param trigger: each argument is an attribute of the same name.
    """
    cls = type(trigger)
    stored = {
        name: getattr(trigger, name)
        for name, parameter in inspect.signature(cls).parameters.items()
        if getattr(trigger, name) != parameter.default
    }
    return f"{cls.__module__}.{cls.__qualname__}", {**stored, "version": KWARGS_VERSION}
