"""The time between two clears of a task instance, and the order of its tries."""

from __future__ import annotations

from datetime import UTC, datetime

from helmr_provider._common.errors import IdentityError


def epoch_of(started: datetime | None, max_tries: int) -> str:
    """Name what lies between two clears.

    :param started: start of the DAG run; a cleared DAG run starts anew.
    :param max_tries: the task instance's; a clear raises it, a retry does not.
    """
    return f"{'' if started is None else started.astimezone(UTC).isoformat()}/{max_tries}"


def was_given_up(*, epoch: str, try_number: int, stamped_epoch: str | None, stamped_try: int | None) -> bool:
    """Say whether Airflow has given up a try, because a later try of the same task instance has written a stamp.

    Its process may continue after a freeze or a network cut. Tries count on across clears. A DAG run that was deleted
    and created anew counts from 1 again; it started later.

    :param epoch: of the try.
    :param try_number: of the try.
    :param stamped_epoch: of the stamp; ``None`` without one.
    :param stamped_try: of the stamp; ``None`` without one.
    """
    if stamped_epoch is None or stamped_try is None or stamped_try <= try_number:
        return False
    if stamped_epoch == epoch:
        return True
    stamped, own = _order_of(stamped_epoch), _order_of(epoch)
    return stamped is not None and own is not None and stamped[0] >= own[0]


def is_earlier_epoch(one: str, other: str) -> bool:
    """Say whether an epoch of a task instance came before another one; ``False`` if its form does not tell.

    :param one: the epoch.
    :param other: what to compare it with.
    """
    first, second = _order_of(one), _order_of(other)
    return first is not None and second is not None and first < second


def is_of_same_start(one: str, other: str) -> bool:
    """Say whether two epochs are of the same start of a DAG run: only ``max_tries`` tells them apart.

    :param one: the epoch.
    :param other: what to compare it with.
    """
    first, second = _order_of(one), _order_of(other)
    return first is not None and second is not None and first[0] == second[0]


def _order_of(epoch: str) -> tuple[datetime, int] | None:
    started, _, max_tries = epoch.rpartition("/")
    try:
        order = datetime.fromisoformat(started), int(max_tries)
    except ValueError:
        return None
    return None if order[0].tzinfo is None else order


def given_up(what: str, later_try: int | None, try_number: int) -> IdentityError:
    """Return the error of a try that Airflow has given up.

    :param what: the resource that a later try owns.
    :param later_try: the later try; ``None`` if it is not known.
    :param try_number: of this try.
    """
    whose = "a later try" if later_try is None else f"try {later_try}"
    return IdentityError(
        f"{what} belongs to {whose} of this task, and this is try {try_number}: Airflow has given it up.",
        permanent=False,
    )
