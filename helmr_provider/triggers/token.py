"""Wait for a token in the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.client._internals import waiter_of
from helmr_provider.triggers.base import KWARGS_VERSION, HelmrTrigger

if TYPE_CHECKING:
    from helmr_provider.client import AsyncHelmrClient


class HelmrTokenTrigger(HelmrTrigger):
    """Fire when a token is not pending any more; all tokens of a connection are polled together.

    The event is ``{"schema": 1, "status": "ended" | "timeout" | "error", "token_id": …}``; the resumed task
    reads the token and its data itself. This trigger never cancels the token.

    :param token_id: Id of the token.
    :param helmr_conn_id: Airflow connection of the control plane.
    :param deadline: When to give up, in seconds since the epoch.
    :param version: Version of the stored form.
    """

    def __init__(
        self, *, token_id: str, helmr_conn_id: str, deadline: float | None = None, version: int = KWARGS_VERSION
    ) -> None:
        super().__init__(helmr_conn_id=helmr_conn_id, deadline=deadline, version=version)
        self.token_id = token_id

    @property
    def ids(self) -> dict[str, str]:
        """What every event says besides how the wait ended."""
        return {"token_id": self.token_id}

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> None:
        """Wait until the token is completed, expired or cancelled (contract/behaviour.md section 11).

        :param client: The triggerer's shared client.
        :param remaining: Seconds left until the deadline; ``None`` without one.
        """
        await waiter_of(client).token(self.token_id, timeout=remaining)
