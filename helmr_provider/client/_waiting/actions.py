"""The words between the scheduler of waits and its drivers: what may be requested, and how it can fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

RUN: Final = "run"
TOKEN: Final = "token"  # noqa: S105 - the kind of thing, not a secret
LISTED: Final = frozenset({RUN, TOKEN})
"""Kinds that are looked at together, by lists."""

FULL_LIST: Final = 200
"""Runs that a list holds at most: one this long may have left something out."""
TOKEN_PAGE: Final = 500
"""Tokens that a page holds at most."""


class WaitKey(NamedTuple):
    """What is waited for: its kind (``run``, ``token``, or any other that is looked at singly), its id, and in what."""

    kind: str
    id: str
    within: str = ""


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Read the snapshot of one thing: nothing else decides that it has ended."""

    key: WaitKey


@dataclass(frozen=True, slots=True)
class ListRuns:
    """List the newest 200 runs: the live ones, or those of one status."""

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
    """Close a run's stream, and say that it ended when it is closed."""

    run_id: str


Request = Retrieve | ListRuns | CountRuns | ListPendingTokens
Action = Request | Follow | StopFollow


def kind_of(request: Request) -> str:
    """Say which kind of things a request is about."""
    if isinstance(request, Retrieve):
        return request.key.kind
    return TOKEN if isinstance(request, ListPendingTokens) else RUN


@dataclass(frozen=True, slots=True)
class Failure:
    """How a request or a stream failed.

    :param retryable: the same may succeed later.
    :param outage: it concerns everybody, not only the thing asked for: nobody was reached, or everybody is turned away.
    :param retry_after: seconds that the server asked to wait.
    :param credential: ``"all"`` when the credential was refused (401), ``"kind"`` when it lacks the scope for things of
        this kind (403), else empty.
    """

    retryable: bool
    outage: bool = False
    retry_after: float | None = None
    credential: str = ""
