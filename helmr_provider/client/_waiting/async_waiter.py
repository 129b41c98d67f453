"""The driver of all waits of one asynchronous client: one task, started by the first wait and ended with the last.

It does what :class:`~helmr_provider.client._waiting.scheduler.Scheduler` decides, and decides nothing itself. Requests
and streams are children of the task; without waits, nothing runs and no stream holds a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from helmr_provider.client._internals import single_shot, stream_slots_of
from helmr_provider.client._waiting.actions import (
    FULL_LIST,
    RUN,
    TOKEN,
    TOKEN_PAGE,
    CountRuns,
    Failure,
    Follow,
    ListedRun,
    ListPendingTokens,
    ListRuns,
    Retrieve,
    StopFollow,
    WaitKey,
)
from helmr_provider.client._waiting.assembly import build_scheduler
from helmr_provider.client._waiting.async_results import Inbox, Kind, Limit, Registration, Result, close_tasks
from helmr_provider.client._waiting.failures import (
    failure_of,
    is_of_one,
    own_copy,
    raise_held_back,
    seconds_since_epoch,
    stream_failure_of,
)
from helmr_provider.client._waiting.stats import WaitStats
from helmr_provider.client._waiting.stream_allocator import ClockSkew, is_hint
from helmr_provider.client._waiting.wait_log import KNOWN_STATUSES, WaitLogs, is_repeated
from helmr_provider.client.errors import HelmrConfigError, HelmrError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

    from helmr_provider.client._async.client import AsyncHelmrClient
    from helmr_provider.client._waiting.actions import Action, PollRequest
    from helmr_provider.client._waiting.scheduler import Scheduler
    from helmr_provider.client.models.runs import RunSnapshot
    from helmr_provider.client.models.tokens import Token

_T = TypeVar("_T")

logger = logging.getLogger("helmr_provider.client")


# Mistakes of this package in a row after which the waits end with an error instead of being scheduled anew.
_BREAKDOWNS = 5


def _has_ended(run: RunSnapshot) -> bool:
    return run.is_terminal


def _is_decided(token: Token) -> bool:
    return not token.is_pending


class _StreamEnd(NamedTuple):
    failure: Failure | None = None
    cursor: str | None = None


async def _ignoring_id(read: Callable[[AsyncHelmrClient], Awaitable[_T]], client: AsyncHelmrClient, _: str) -> _T:
    return await read(client)


class AsyncWaiter:
    """Wait for runs, tokens and other things on behalf of one client.

    It belongs to the event loop of its first wait, as the client's connections do.

    :param client: the client that requests are sent with.
    """

    def __init__(self, client: AsyncHelmrClient) -> None:
        # The scheduler has a rhythm of its own for what fails.
        self._client = single_shot(client)
        self._slots = stream_slots_of(client)
        self._scheduler = build_scheduler()
        self._stats = WaitStats()
        self._logs = WaitLogs()
        self._skew = ClockSkew()
        self._waits: dict[WaitKey, Registration] = {}
        self._kinds: dict[str, Kind] = {
            RUN: Kind(self._client.runs.retrieve, _has_ended),
            TOKEN: Kind(self._client.tokens.retrieve, _is_decided),
        }
        self._children: dict[PollRequest | Follow, asyncio.Task[Any]] = {}
        self._driver: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._closed = False
        self._breakdowns = 0

    @property
    def stats(self) -> WaitStats:
        """Counters of what this waiter does."""
        return self._stats

    async def run(self, run_id: str, timeout: float | None = None) -> RunSnapshot:  # noqa: ASYNC109 - the limit names the run
        """Wait until a run has ended, with any status (contract/behaviour.md section 8).

        :param run_id: id of the run.
        :param timeout: seconds; None for as long as it takes.
        :raises HelmrTimeoutError: the run had not ended by then.
        :raises HelmrNotFoundError: no such run in this environment.
        """
        snapshot: RunSnapshot = await self._one(WaitKey(RUN, run_id), timeout)
        return snapshot

    async def run_many(
        self,
        run_ids: Iterable[str],
        timeout: float | None = None,  # noqa: ASYNC109 - the limit names the runs
    ) -> AsyncGenerator[RunSnapshot, None]:
        """Yield each run's terminal snapshot once, as they end. Closing the iterator stops the waits, not the runs.

        :param run_ids: ids of the runs; one that stands twice counts once.
        :param timeout: seconds for all of them, from the first step of the iteration.
        :raises HelmrTimeoutError: not all had ended by then; ``pending`` has the ids of the others.
        :raises HelmrNotFoundError: a run does not exist; raised after all others were yielded.
        """
        pending = dict.fromkeys(WaitKey(RUN, run_id) for run_id in run_ids)
        limit = Limit(timeout)
        inbox = Inbox()
        held_back: list[BaseException] = []
        for key in pending:
            self._register(key, inbox)
        try:
            while pending:
                try:
                    result = await limit.next(inbox)
                except TimeoutError:
                    raise limit.error(pending) from next(iter(held_back), None)
                del pending[result.key]
                await close_tasks(result.closing)
                if result.error is None:
                    yield result.value
                elif is_of_one(result.error):
                    held_back.append(result.error)
                else:
                    raise result.error
        finally:
            self._logs.forget(inbox.log)
            for key in pending:
                self._unregister(key, inbox)
        raise_held_back(held_back)

    async def token(self, token_id: str, timeout: float | None = None) -> Token:  # noqa: ASYNC109 - the limit names the token
        """Wait until a token is not pending any more: completed, expired or cancelled.

        :param token_id: id of the token.
        :param timeout: seconds; None for as long as it takes.
        :raises HelmrTimeoutError: it was still pending by then.
        :raises HelmrNotFoundError: no such token in this environment.
        """
        token: Token = await self._one(WaitKey(TOKEN, token_id), timeout)
        return token

    async def until(
        self,
        key: WaitKey,
        read: Callable[[AsyncHelmrClient], Awaitable[_T]],
        ended: Callable[[_T], bool],
        timeout: float | None = None,  # noqa: ASYNC109 - the limit names what is waited for
        *,
        interval: float | None = None,
    ) -> _T:
        """Wait for anything else: read it again and again, together with all other waits of the client.

        :param key: names everything that ``read`` and ``ended`` depend on, because equal keys share their reads; its
            kind is neither ``run`` nor ``token``.
        :param read: reads it once, with a client that repeats nothing: the waiter does.
        :param ended: says whether what was read ends the wait.
        :param timeout: seconds; None for as long as it takes.
        :param interval: seconds between two looks, of the first of equal waits; None for one second growing to five.
        :raises HelmrTimeoutError: it had not ended by then.
        :raises HelmrNotFoundError: it does not exist in this environment.
        """
        if key.kind in self._kinds:
            raise ValueError(f"Things of the kind {key.kind!r} have a wait of their own.")
        found: _T = await self._one(key, timeout, interval, Kind(partial(_ignoring_id, read, self._client), ended))
        return found

    async def aclose(self) -> None:
        """End all waits with an error, and everything that is under way."""
        self._closed = True
        children = self._children_and_driver()
        self._break(HelmrError("The client was closed while something waited with it."))
        await close_tasks(children)

    # Waits

    async def _one(
        self,
        key: WaitKey,
        timeout: float | None,  # noqa: ASYNC109 - the limit names what is waited for
        interval: float | None = None,
        kind: Kind | None = None,
    ) -> Any:
        limit = Limit(timeout)
        inbox = Inbox()
        self._register(key, inbox, interval, kind)
        try:
            result = await limit.next(inbox)
        except TimeoutError:
            raise limit.error([key]) from None
        finally:
            self._logs.forget(inbox.log)
            self._unregister(key, inbox)
        await close_tasks(result.closing)
        if result.error is not None:
            raise result.error
        return result.value

    def _register(self, key: WaitKey, inbox: Inbox, interval: float | None = None, kind: Kind | None = None) -> None:
        if self._closed:
            raise HelmrError("This client is closed: nothing can be waited for with it.")
        loop = asyncio.get_running_loop()
        if self._loop not in {None, loop}:
            raise HelmrConfigError(
                "This AsyncHelmrClient is used by another event loop: make one client for each event loop."
            )
        self._loop = loop
        registration = self._waits.get(key)
        if registration is None:
            registration = self._waits[key] = Registration(kind or self._kinds[key.kind], interval)
            self._scheduler.add(key, loop.time(), interval)
            self._stats.wait_began()
        registration.inboxes.append(inbox)
        if self._driver is None:
            self._slots.watchers.add(self._nudge)
            self._driver = loop.create_task(self._drive(), name="helmr-waiter")
        self._wake.set()

    def _unregister(self, key: WaitKey, inbox: Inbox) -> None:
        registration = self._waits.get(key)
        if registration is None or inbox not in registration.inboxes:
            return
        registration.inboxes.remove(inbox)
        if not registration.inboxes:
            self._forget(key)

    def _forget(self, key: WaitKey) -> tuple[asyncio.Task[Any], ...]:
        """Stop everything that is under way for one thing, or everything at all if it was the last."""
        del self._waits[key]
        self._scheduler.remove(key)
        self._stats.wait_ended()
        if not self._waits:
            ending = self._children_and_driver()
            self._driver = None
            self._slots.watchers.discard(self._nudge)
        else:
            ending = tuple(
                task
                for action, task in self._children.items()
                if (isinstance(action, Retrieve) and action.key == key)
                or (isinstance(action, Follow) and WaitKey(RUN, action.run_id) == key)
            )
        for task in ending:
            if task is not asyncio.current_task():
                task.cancel()
        self._wake.set()
        return tuple(task for task in ending if task is not asyncio.current_task())

    def _nudge(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    def _end(self, key: WaitKey, value: Any, error: BaseException | None) -> None:
        registration = self._waits.get(key)
        if registration is None:
            return
        self._breakdowns = 0
        closing = self._forget(key)
        for inbox in registration.inboxes:
            inbox.put_nowait(Result(key, value, own_copy(error) if error is not None else None, closing))

    def _break(self, error: HelmrError) -> None:
        for key in list(self._waits):
            self._end(key, None, error)

    def _children_and_driver(self) -> tuple[asyncio.Task[Any], ...]:
        return (*self._children.values(), *([self._driver] if self._driver is not None else []))

    # The task

    async def _drive(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._wake.clear()
                try:
                    wake_at = self._step(loop.time())
                except Exception as error:  # noqa: BLE001 - the waits survive a mistake of this package
                    wake_at = self._recover(error)
                    if self._driver is not asyncio.current_task():
                        return  # All waits were ended; the next one starts another driver.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(wake_at):
                        await self._wake.wait()
        except asyncio.CancelledError:
            if self._driver is asyncio.current_task():
                self._driver = None
                self._break(HelmrError("Waiting was cancelled from outside: the event loop is being shut down."))
            raise

    def _step(self, now: float) -> float | None:
        """Start what the scheduler wants started, and return when to ask it again."""
        self._scheduler.streams(self._slots.for_waits(mine=self._stats.open_streams))
        for action in self._scheduler.actions(now):
            self._begin(action)
        return self._scheduler.wake_at(now)

    def _recover(self, error: Exception) -> float:
        """Schedule all waits anew after a mistake in this package; end them if it is made again and again.

        :returns: when to continue.
        """
        now = asyncio.get_running_loop().time()
        self._breakdowns += 1
        logger.error("Scheduling waits failed (%d); they are scheduled anew", self._breakdowns, exc_info=error)
        if self._breakdowns >= _BREAKDOWNS:
            failure = HelmrError(f"Waiting broke down: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self._breakdowns = 0
            self._break(failure)
        self._scheduler = build_scheduler()
        for child in list(self._children.values()):
            child.cancel()
        for key, registration in self._waits.items():
            self._scheduler.add(key, now, registration.interval)
        return now + 1.0

    def _begin(self, action: Action) -> None:
        loop = asyncio.get_running_loop()
        match action:
            case StopFollow(run_id):
                for other, task in self._children.items():
                    if isinstance(other, Follow) and other.run_id == run_id:
                        task.cancel()
            case Follow():
                self._stats.count(action)
                self._stats.stream_opened()
                self._slots.take()
                stream = self._children[action] = loop.create_task(self._follow(action))
                stream.add_done_callback(partial(self._stream_closed, self._scheduler, action))
            case _:
                self._stats.count(action)
                request = self._children[action] = loop.create_task(self._request(action))
                request.add_done_callback(partial(self._request_over, self._scheduler, action))

    # Called for a child that was cancelled before its first step, too, which no ``finally`` in it would be.

    def _request_over(self, scheduler: Scheduler, action: PollRequest, child: asyncio.Task[None]) -> None:
        self._forget_child(action, child)
        scheduler.dropped(action, child.get_loop().time())
        self._child_over(child)

    def _stream_closed(self, scheduler: Scheduler, action: Follow, child: asyncio.Task[_StreamEnd]) -> None:
        self._forget_child(action, child)
        self._stats.stream_closed()
        self._slots.give_back()
        end = _StreamEnd() if child.cancelled() or child.exception() else child.result()
        scheduler.stream_ended(action.run_id, child.get_loop().time(), end.failure, end.cursor)
        self._child_over(child)

    def _forget_child(self, action: PollRequest | Follow, child: asyncio.Task[Any]) -> None:
        # After a mistake the next scheduler may have begun the same before this one was over.
        if self._children.get(action) is child:
            del self._children[action]

    def _child_over(self, child: asyncio.Task[Any]) -> None:
        error = None if child.cancelled() else child.exception()
        if isinstance(error, Exception):
            self._recover(error)
        self._wake.set()

    async def _request(self, action: PollRequest) -> None:
        clock = asyncio.get_running_loop().time
        scheduler, began = self._scheduler, clock()
        try:
            report = await self._send(action)
        except HelmrError as error:
            self._failed(scheduler, action, failure_of(error), error)
        except Exception as error:
            # What a list cannot say, single polls will; an id that cannot be asked for is the mistake of its own wait.
            if not isinstance(action, Retrieve):
                logger.warning("%s failed and is repeated", action, exc_info=error)
            self._failed(scheduler, action, Failure(retryable=not isinstance(action, Retrieve)), error)
        else:
            self._logs.succeeded(action, began, clock())
            report(scheduler, clock())

    def _failed(self, scheduler: Scheduler, action: PollRequest, failure: Failure, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        for key in scheduler.failed(action, now, failure):
            self._end(key, None, error)
        if is_repeated(action, failure):
            own = [action.key] if isinstance(action, Retrieve) and not failure.outage else list(self._waits)
            logs = (inbox.log for key in own if key in self._waits for inbox in self._waits[key].inboxes)
            self._logs.failed(logs, action, failure, error, now)

    async def _send(self, action: PollRequest) -> Callable[[Scheduler, float], None]:
        """Send a request.

        :returns: what reports its answer to the scheduler.
        """
        match action:
            case Retrieve(key):
                registration = self._waits.get(key)
                if registration is None:
                    return lambda scheduler, now: scheduler.dropped(action, now)
                value = await registration.kind.read(key.id)
                self._log_odd_statuses([value] if key.kind == RUN else [])
                return self._retrieved(action, value, ended=registration.kind.ended(value))
            case ListRuns(status):
                runs = await self._client.runs.list(status=status, limit=FULL_LIST)
                self._log_odd_statuses(runs)
                return self._listed(action, {run.id: run for run in runs}, full=len(runs) >= FULL_LIST)
            case CountRuns():
                finished = (await self._client.runs.count()).terminal
                return lambda scheduler, now: scheduler.counted(action, now, finished)
            case ListPendingTokens(cursor):
                page = await self._client.tokens.list_page(status="pending", cursor=cursor, limit=TOKEN_PAGE)
                tokens = {token.id for token in page.tokens}
                return lambda scheduler, now: scheduler.paged(action, now, tokens, page.next_cursor)

    def _log_odd_statuses(self, runs: Iterable[RunSnapshot]) -> None:
        for run in runs:
            if run.status not in KNOWN_STATUSES and (waits := self._waits.get(WaitKey(RUN, run.id))) is not None:
                for inbox in waits.inboxes:
                    inbox.log.status(run.id, run.status)

    def _retrieved(self, action: Retrieve, value: Any, *, ended: bool) -> Callable[[Scheduler, float], None]:
        status, created = getattr(value, "status", ""), seconds_since_epoch(getattr(value, "created_at", None))

        def report(scheduler: Scheduler, now: float) -> None:
            if scheduler.retrieved(action, now, ended=ended, status=status, created=created):
                self._end(action.key, value, None)

        return report

    def _listed(
        self, action: ListRuns, runs: dict[str, RunSnapshot], *, full: bool
    ) -> Callable[[Scheduler, float], None]:
        rows = {
            run.id: ListedRun(run.status, seconds_since_epoch(run.created_at), run.is_terminal) for run in runs.values()
        }

        def report(scheduler: Scheduler, now: float) -> None:
            for key in scheduler.listed(action, now, rows, full=full):
                self._end(key, runs[key.id], None)

        return report

    async def _follow(self, action: Follow) -> _StreamEnd:
        # The same clock for both: the wall clock can be set while a stream is open.
        clock = asyncio.get_running_loop().time
        scheduler, opened = self._scheduler, clock()
        connect = self._client.runs.events._connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - made for this
        connection = connect(action.run_id, action.cursor)
        try:
            async with contextlib.aclosing(connection) as records:
                async for record in records:
                    if record is None:
                        continue
                    now, at = clock(), seconds_since_epoch(record.at)
                    lag = None if at is None else self._skew.lag(at, now, opened)
                    hint = is_hint(record.kind, record.message)
                    scheduler.stream_record(action.run_id, now, record.id, lag, hint=hint)
                    if hint:
                        self._wake.set()
        except HelmrError as error:
            return _StreamEnd(stream_failure_of(error), getattr(error, "cursor", None))
        except Exception as error:
            logger.warning("The event stream of run %s failed and is opened again later", action.run_id, exc_info=error)
            return _StreamEnd(Failure(retryable=True))
        return _StreamEnd()
