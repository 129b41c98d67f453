"""Which queued runs their queues let execute now."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row


class Places:
    """The places of all queues, for one round of leases.

    A run holds one from its lease until its worker has let go of it: not while it waits, nor between two attempts.

    :param core: the control plane's state.
    """

    def __init__(self, core: Core) -> None:
        self._limits = core.deployment.queues
        self._taken: Counter[tuple[str, str, str | None]] = Counter()
        held = core.db.all("SELECT * FROM runs WHERE execution IN ('executing', 'pending_cancel')")
        self._taken.update(_place(run) for run in held)

    def free(self, run: Row) -> bool:
        """Tell whether a run's queue has a place for it."""
        # A queue that no task declares any more limits nothing: its runs must end somehow.
        limit = self._limits.get(run["queue"])
        return limit is None or self._taken[_place(run)] < limit

    def take(self, run: Row) -> None:
        """Note that a run has a place."""
        self._taken[_place(run)] += 1


def _place(run: Row) -> tuple[str, str, str | None]:
    return (run["environment_id"], run["queue"], run["concurrency_key"])
