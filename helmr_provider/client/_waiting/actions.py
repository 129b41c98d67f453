"""What the scheduler of waits and its drivers exchange: requests, their results, and how they fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

RUN: Final = "run"
TOKEN: Final = "token"  # noqa: S105 - the kind of thing, not a secret
LISTED: Final = frozenset({RUN, TOKEN})
"""Kinds that lists answer for."""

FULL_LIST: Final = 200
"""Runs that a list holds at most: a list of this length may leave some out."""
TOKEN_PAGE: Final = 500
"""Tokens that a page holds at most."""


class WaitKey(NamedTuple):
    """Identifies what is waited for: its kind (``run``, ``token``, or any other), its id, and what it belongs to."""

    kind: str
    id: str
    within: str = ""


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Read the snapshot of one thing."""

    key: WaitKey


@dataclass(frozen=True, slots=True)
class ListRuns:
    """List the newest 200 runs: the live ones, or those of one status, or ``all``."""

    status: str | None = None


@dataclass(frozen=True, slots=True)
class CountRuns:
    """Count the runs of the environment by status."""


@dataclass(frozen=True, slots=True)
class ListPendingTokens:
    """Read one page of pending tokens, oldest first, after the cursor."""

    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Follow:
    """Open one stream of a run's events, after the cursor."""

    run_id: str
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class StopFollow:
    """Close a run's stream, and report its end when it is closed."""

    run_id: str


PollRequest = Retrieve | ListRuns | CountRuns | ListPendingTokens
Action = PollRequest | Follow | StopFollow


class ListedRun(NamedTuple):
    """One row of a list of runs.

    :param status: its status.
    :param created: when it was created, in seconds since the epoch; None if that cannot be read.
    :param ended: whether the row is a final snapshot.
    """

    status: str
    created: float | None = None
    ended: bool = False


def kind_of(request: PollRequest) -> str:
    """Return the kind of things that a request is about."""
    if isinstance(request, Retrieve):
        return request.key.kind
    return TOKEN if isinstance(request, ListPendingTokens) else RUN


@dataclass(frozen=True, slots=True)
class Failure:
    """How a request or a stream failed.

    :param retryable: the same may succeed later.
    :param outage: it concerns all waits, not only the thing asked for.
    :param retry_after: seconds that the server asked to wait.
    :param credential: ``"all"`` when the credential was refused (401), ``"kind"`` when it lacks the scope for things of
        this kind (403), else empty.
    """

    retryable: bool
    outage: bool = False
    retry_after: float | None = None
    credential: str = ""

    @property
    def pause(self) -> float:
        """Seconds to add to the back-off of the request that failed.

        The pause that the server asked for stops all requests. If the same request were due at its end, one that is
        always refused would leave the others no time.
        """
        return self.retry_after or 0.0
