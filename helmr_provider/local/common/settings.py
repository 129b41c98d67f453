"""The times and sizes of a local control plane; the defaults are those of the real one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Times and sizes that a test may shorten.

    :param start_and_wait: seconds that start-and-wait waits; a request cannot change it (contract/behaviour.md §21).
    :param keep_alive: seconds of silence after which an event stream sends a comment.
    :param log_poll: seconds between two polls of a log stream, each followed by a comment.
    :param stream_limit: seconds after which any stream is ended.
    :param sweep: seconds between two sweeps for due times: timeouts, expiries, timers, retries and
        follow-up runs.
    :param start_latency: seconds during which a start holds the claim on its idempotency key, so that another start
        with the same key is answered 202.
    :param max_body: bytes of a request body.
    :param quirks: fail with 500 where the real one does instead of refusing (contract/behaviour.md section 21).
    :param schedule_jitter: seconds by which a schedule's fire is late at most; each schedule has its own share.
    :param execute: run the commands of execs and terminals, on this machine as they are. Never done for an address
        that others can reach.
    :param event_slots: how many followers of events can be silent at the same time before no event is published;
        without a limit if None. A small real control plane has 20.
    :param request_seconds: seconds after which the connection of an incomplete request is closed.
    :param stream_retention: the newest bytes of an exec's or terminal's stream that stay readable.
    """

    start_and_wait: float = 30.0
    keep_alive: float = 25.0
    log_poll: float = 1.0
    stream_limit: float = 1800.0
    sweep: float = 0.25
    start_latency: float = 0.0
    max_body: int = 128 * 1024 * 1024
    quirks: bool = True
    schedule_jitter: float = 30.0
    execute: bool = True
    event_slots: int | None = None
    request_seconds: float = 30.0
    stream_retention: int = 64 * 1024 * 1024
