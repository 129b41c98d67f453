"""Wait for a token in the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.triggers.base import KWARGS_VERSION, HelmrTrigger

if TYPE_CHECKING:
    from helmr_provider.client import AsyncHelmrClient


class HelmrTokenTrigger(HelmrTrigger):
    """Fire when a token is not pending any more; all tokens of a connection are polled together.

    The event says how the token ended, never with what data: those are read by the task, from the control plane. The
    token is not this task's to cancel, whatever happens to the task.

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

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> dict[str, Any]:
        """Wait until the token is completed, expired or cancelled (behaviour.md section 11)."""
        token = await client.waiter.token(self.token_id, timeout=remaining)
        return {"status": "ended", "token_id": self.token_id, "token_status": token.status}
