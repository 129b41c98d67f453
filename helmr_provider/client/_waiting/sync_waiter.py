"""The driver of waits for the blocking client: no threads, and nothing is shared between callers but the stream slots.

Each call drives a scheduler of its own, one request at a time. A single wait follows the run's events if a slot is
free. The clock is checked after each chunk of the stream, so that comments that keep it alive hold up neither the next
poll nor the deadline.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
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
from helmr_provider.client._waiting.failures import (
    failure_of,
    is_of_one,
    own_copy,
    raise_held_back,
    seconds_since_epoch,
    stream_failure_of,
    timeout_error,
)
from helmr_provider.client._waiting.stats import WaitStats
from helmr_provider.client._waiting.stream_allocator import ClockSkew, is_hint
from helmr_provider.client._waiting.wait_log import WaitLog, is_repeated
from helmr_provider.client.errors import HelmrConnectionError, HelmrError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from helmr_provider.client._http import Response
    from helmr_provider.client._sync.client import HelmrClient
    from helmr_provider.client._waiting.actions import Action, PollRequest
    from helmr_provider.client.models.events import EventRecord
    from helmr_provider.client.models.runs import RunSnapshot
    from helmr_provider.client.models.tokens import Token

_T = TypeVar("_T")

logger = logging.getLogger("helmr_provider.client")


class _Shutdown:
    """Tells the threads that wait with a client that it is closed, also those that read a silent stream."""

    def __init__(self) -> None:
        # Its lock is reentrant, because a signal handler may interrupt the holder. The lock of an event is not.
        self._changed = threading.Condition()
        self._closed = False
        self._reading: set[Response] = set()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            for response in tuple(self._reading):
                response.interrupt()

    def is_closed(self) -> bool:
        return self._closed

    def sleep(self, seconds: float | None) -> None:
        """Sleep until then, or until the client is closed."""
        with self._changed:
            self._changed.wait_for(self.is_closed, seconds)

    @contextlib.contextmanager
    def reading(self) -> Generator[Callable[[Response], None]]:
        """Interrupt the stream that is passed to the result if the client is closed before the end of the block."""
        responses: list[Response] = []

        def opened(response: Response) -> None:
            with self._changed:
                responses.append(response)
                self._reading.add(response)
                if self._closed:
                    response.interrupt()

        try:
            yield opened
        finally:
            with self._changed:
                self._reading.difference_update(responses)


class Waiter:
    """Wait for runs, tokens and other things on behalf of one client, in the thread of the caller.

    :param client: the client that requests are sent with.
    """

    def __init__(self, client: HelmrClient) -> None:
        self._client = client
        self._stats = WaitStats()
        self._shutdown = _Shutdown()

    @property
    def stats(self) -> WaitStats:
        """Counters of what the waits of all threads do."""
        return self._stats

    def run(self, run_id: str, timeout: float | None = None) -> RunSnapshot:
        """Wait until a run has ended, with any status (contract/behaviour.md section 8).

        :param run_id: id of the run.
        :param timeout: seconds; None for as long as it takes.
        :raises HelmrTimeoutError: the run had not ended by then.
        :raises HelmrNotFoundError: no such run in this environment.
        """
        snapshot: RunSnapshot = self._one(WaitKey(RUN, run_id), timeout, _KINDS[RUN])
        return snapshot

    def run_many(self, run_ids: Iterable[str], timeout: float | None = None) -> Generator[RunSnapshot, None, None]:
        """Yield each run's terminal snapshot once, as they end. Closing the iterator stops the waits, not the runs.

        :param run_ids: ids of the runs; one that stands twice counts once.
        :param timeout: seconds for all of them, from the first step of the iteration.
        :raises HelmrTimeoutError: not all had ended by then; ``pending`` has the ids of the others.
        :raises HelmrNotFoundError: a run does not exist; raised after all others were yielded.
        """
        held_back: list[BaseException] = []
        keys = [WaitKey(RUN, run_id) for run_id in run_ids]
        wait = _Wait(self._client, self._stats, self._shutdown, keys, timeout, kind=_KINDS[RUN])
        with contextlib.closing(wait.results(streams=False)) as results:
            for result in results:
                if result.error is None:
                    yield result.value
                elif is_of_one(result.error):
                    held_back.append(result.error)
                else:
                    raise result.error
        raise_held_back(held_back)

    def token(self, token_id: str, timeout: float | None = None) -> Token:
        """Wait until a token is not pending any more: completed, expired or cancelled.

        :param token_id: id of the token.
        :param timeout: seconds; None for as long as it takes.
        :raises HelmrTimeoutError: it was still pending by then.
        :raises HelmrNotFoundError: no such token in this environment.
        """
        token: Token = self._one(WaitKey(TOKEN, token_id), timeout, _KINDS[TOKEN])
        return token

    def until(
        self,
        key: WaitKey,
        read: Callable[[HelmrClient], _T],
        ended: Callable[[_T], bool],
        timeout: float | None = None,
        *,
        interval: float | None = None,
    ) -> _T:
        """Wait for anything else: read it again and again.

        :param key: names it; its kind is neither ``run`` nor ``token``.
        :param read: reads it once, with a client that repeats nothing: the wait does.
        :param ended: says whether what was read ends the wait.
        :param timeout: seconds; None for as long as it takes.
        :param interval: seconds between two looks; None for one second growing to five.
        :raises HelmrTimeoutError: it had not ended by then.
        :raises HelmrNotFoundError: it does not exist in this environment.
        """
        if key.kind in _KINDS:
            raise ValueError(f"Things of the kind {key.kind!r} have a wait of their own.")

        def read_it(client: HelmrClient, _: str) -> _T:
            return read(client)

        found: _T = self._one(key, timeout, _Kind(read_it, ended), interval)
        return found

    def close(self) -> None:
        """End the waits of other threads with an error."""
        self._shutdown.close()

    def _one(self, key: WaitKey, timeout: float | None, kind: _Kind, interval: float | None = None) -> Any:
        wait = _Wait(self._client, self._stats, self._shutdown, [key], timeout, kind=kind)
        with contextlib.closing(wait.results(streams=key.kind == RUN, interval=interval)) as results:
            result = next(results)
        if result.error is not None:
            raise result.error
        return result.value


class _Kind(NamedTuple):
    read: Callable[[HelmrClient, str], Any]
    ended: Callable[[Any], bool]


def _read_run(client: HelmrClient, run_id: str) -> RunSnapshot:
    return client.runs.retrieve(run_id)


def _has_ended(run: RunSnapshot) -> bool:
    return run.is_terminal


def _read_token(client: HelmrClient, token_id: str) -> Token:
    return client.tokens.retrieve(token_id)


def _is_decided(token: Token) -> bool:
    return not token.is_pending


_KINDS = {RUN: _Kind(_read_run, _has_ended), TOKEN: _Kind(_read_token, _is_decided)}


class _Result(NamedTuple):
    key: WaitKey
    value: Any
    error: BaseException | None


class _Wait:
    """One call: its scheduler, its deadline, and the requests that it makes."""

    def __init__(
        self,
        client: HelmrClient,
        stats: WaitStats,
        shutdown: _Shutdown,
        keys: Iterable[WaitKey],
        timeout: float | None,
        *,
        kind: _Kind,
    ) -> None:
        self._client = client
        self._kind = kind
        self._slots = stream_slots_of(client)
        self._stats = stats
        self._shutdown = shutdown
        self._scheduler = build_scheduler(requests=1)
        self._skew = ClockSkew()
        self._log = WaitLog()
        self._pending = dict.fromkeys(keys)
        self._limit = timeout
        self._ends_at = float("inf") if timeout is None else time.monotonic() + timeout

    def results(self, *, streams: bool, interval: float | None = None) -> Generator[_Result, None, None]:
        """Yield each result once.

        :param streams: follow events if the client has a slot to spare.
        :param interval: seconds between two single looks, if not the scheduler's own.
        """
        for key in self._pending:
            self._scheduler.add(key, time.monotonic(), interval)
        holds_slot, waits = False, len(self._pending)
        self._stats.wait_began(waits)
        try:
            while self._pending:
                holds_slot = streams and self._keep_or_take(holds_slot)
                self._scheduler.streams(int(holds_slot))
                now = self._now()
                actions = self._scheduler.actions(now)
                for action in actions:
                    yield from self._do(action)
                if not actions:
                    wake_at = min(self._scheduler.wake_at(now) or self._ends_at, self._ends_at)
                    self._shutdown.sleep(None if wake_at == float("inf") else max(0.0, wake_at - now))
        finally:
            self._stats.wait_ended(waits)
            if holds_slot:
                self._slots.give_back()

    def _now(self) -> float:
        now = time.monotonic()
        if now >= self._ends_at:
            raise timeout_error(self._limit, self._pending)
        if self._shutdown.is_closed():
            raise HelmrError("The client was closed while something waited with it.")
        return now

    def _keep_or_take(self, holds_slot: bool) -> bool:  # noqa: FBT001 - private, and named by its only caller
        if not holds_slot:
            return self._slots.try_take()
        if self._slots.for_waits(mine=1):
            return True
        self._slots.give_back()
        return False

    def _do(self, action: Action) -> Iterator[_Result]:
        if isinstance(action, StopFollow):
            # Between two actions of a blocking wait no stream is open.
            self._scheduler.stream_ended(action.run_id, time.monotonic(), paused=True)
            return
        self._stats.count(action)
        if isinstance(action, Follow):
            self._follow(action)
            return
        began = time.monotonic()
        try:
            results = self._request(action)
        except HelmrError as error:
            yield from self._failed(action, failure_of(error), error)
        except Exception as error:
            # What a list cannot say, single polls will; an id that cannot be asked for is the mistake of its own wait.
            if isinstance(action, Retrieve):
                yield from self._failed(action, Failure(retryable=False), error)
            else:
                logger.warning("%s failed and is repeated", action, exc_info=error)
                yield from self._failed(action, Failure(retryable=True), error)
        else:
            self._log.succeeded(action, began, time.monotonic())
            for key, value in results:
                del self._pending[key]
                yield _Result(key, value, None)

    def _failed(self, action: PollRequest, failure: Failure, error: Exception) -> Iterator[_Result]:
        if is_repeated(action, failure):
            self._log.failed(action, failure, error, time.monotonic())
        for key in self._scheduler.failed(action, time.monotonic(), failure):
            del self._pending[key]
            yield _Result(key, None, own_copy(error))

    def _request(self, action: PollRequest) -> list[tuple[WaitKey, Any]]:
        """Send a request and report its answer.

        :returns: the waits that it ends, with their values.
        """
        client = single_shot(self._client, silence=None if self._limit is None else self._ends_at - self._now())
        match action:
            case Retrieve(key):
                value = self._kind.read(client, key.id)
                if key.kind == RUN:
                    self._log.status(key.id, value.status)
                ended, status = self._kind.ended(value), getattr(value, "status", "")
                created, now = seconds_since_epoch(getattr(value, "created_at", None)), time.monotonic()
                over = self._scheduler.retrieved(action, now, ended=ended, status=status, created=created)
                return [(key, value)] if over else []
            case ListRuns(status):
                listed = client.runs.list(status=status, limit=FULL_LIST)
                runs = {run.id: run for run in listed}
                rows = {
                    run.id: ListedRun(run.status, seconds_since_epoch(run.created_at), run.is_terminal)
                    for run in runs.values()
                }
                for key in self._pending:
                    if key.id in runs:
                        self._log.status(key.id, runs[key.id].status)
                over_now = self._scheduler.listed(action, time.monotonic(), rows, full=len(listed) >= FULL_LIST)
                return [(key, runs[key.id]) for key in over_now]
            case CountRuns():
                self._scheduler.counted(action, time.monotonic(), client.runs.count().terminal)
            case ListPendingTokens(cursor):
                page = client.tokens.list_page(status="pending", cursor=cursor, limit=TOKEN_PAGE)
                tokens = {token.id for token in page.tokens}
                self._scheduler.paged(action, time.monotonic(), tokens, page.next_cursor)
        return []

    def _follow(self, action: Follow) -> None:
        """Follow events until there is a hint, the next poll is due, or the stream ends."""
        opened = heard = time.monotonic()
        until = min(self._scheduler.wake_at(opened) or self._ends_at, self._ends_at)
        silence = max(0.1, until - opened)
        events = single_shot(self._client, silence=silence).runs.events
        connect = events._connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - made for this
        self._stats.stream_opened()
        failure, cursor, paused = None, None, False
        try:
            with (
                self._shutdown.reading() as on_open,
                contextlib.closing(connect(action.run_id, action.cursor, on_open)) as records,
            ):
                for record in records:
                    heard = time.monotonic()
                    paused = heard >= until or (record is not None and self._record(action.run_id, record, opened))
                    if paused:
                        break
        except HelmrError as error:
            # The end of the slice shows as silence; a break comes earlier.
            paused = isinstance(error, HelmrConnectionError) and time.monotonic() >= heard + silence
            failure, cursor = stream_failure_of(error), getattr(error, "cursor", None)
        except Exception as error:
            logger.warning("The event stream of run %s failed and is opened again later", action.run_id, exc_info=error)
            failure = Failure(retryable=True)
        finally:
            self._stats.stream_closed()
        self._scheduler.stream_ended(action.run_id, time.monotonic(), failure, cursor, paused=paused)

    def _record(self, run_id: str, record: EventRecord, opened: float) -> bool:
        """Report an event, and return whether it is a reason to read the snapshot."""
        now, at = time.monotonic(), seconds_since_epoch(record.at)
        lag = None if at is None else self._skew.lag(at, now, opened)
        hint = is_hint(record.kind, record.message)
        self._scheduler.stream_record(run_id, now, record.id, lag, hint=hint)
        return hint
