"""Wait in the triggerer for a person's answer in Airflow or in Helmr."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from helmr_provider._approvals import hitl
from helmr_provider._approvals.tokens import left_over_token
from helmr_provider._common.versions import AIRFLOW_V_3_3_PLUS
from helmr_provider.client._internals import waiter_of
from helmr_provider.client.errors import HelmrApiError, HelmrConflictError, HelmrError, HelmrGoneError
from helmr_provider.triggers.base import KWARGS_VERSION, HelmrTrigger

if TYPE_CHECKING:
    from helmr_provider._approvals.hitl import Row
    from helmr_provider._approvals.question import Answer, Question
    from helmr_provider.client import AsyncHelmrClient
    from helmr_provider.client.models.tokens import Token

# The worker does what could not be done in this time.
_LATE_SECONDS: Final = 60.0


class HelmrApprovalTrigger(HelmrTrigger):
    """Fire when the token of a question is not pending any more.

    The token decides: an answer in Airflow completes it here, and its completion in Helmr
    closes the question in Airflow. Airflow 3.3 resumes the task itself after an answer there; before, this
    trigger polls.

    The event is ``{"schema": 1, "status": "ended" | "timeout" | "error", "token_id": …}``; the resumed task
    reads the token and its data itself.

    :param token_id: the token; its metadata hold the question and the default at the deadline.
    :param helmr_conn_id: Airflow connection of the control plane.
    :param deadline: when to take the default, or to give up, in seconds since the epoch.
    :param owner: who asks; the token's stamp must say the same when it is cancelled.
    :param ti_id: task instance that Airflow shows the question for; ``None`` where it cannot show any.
    :param version: version of the stored form.
    """

    def __init__(
        self,
        *,
        token_id: str,
        helmr_conn_id: str,
        deadline: float | None = None,
        owner: str | None = None,
        ti_id: str | None = None,
        version: int = KWARGS_VERSION,
    ) -> None:
        super().__init__(helmr_conn_id=helmr_conn_id, deadline=deadline, version=version)
        self.token_id = token_id
        self.owner = owner
        self.ti_id = ti_id

    @property
    def kills(self) -> bool:
        """Whether a killed task withdraws its question."""
        return self.owner is not None

    @property
    def left_over(self) -> str:
        """What remains when :meth:`kill` fails, and how to end it."""
        return left_over_token(self.token_id)

    @property
    def ids(self) -> dict[str, str]:
        """What every event says besides how the wait ended."""
        return {"token_id": self.token_id}

    async def watch(self, client: AsyncHelmrClient, *, remaining: float | None) -> None:
        """Wait for the answer; then both sides have it.

        :param client: the triggerer's shared client.
        :param remaining: seconds left until the deadline; ``None`` without one.
        """
        row = await self._answered_before()
        if row is None and self.ti_id is not None and not AIRFLOW_V_3_3_PLUS:
            row = await self._first_answer(client, self.ti_id, remaining)
        if row is not None:
            await self._pass_on(client, row)
            return
        token = await waiter_of(client).token(self.token_id, timeout=remaining)
        await self._close(token)

    async def kill(self, client: AsyncHelmrClient) -> None:
        """Cancel the token, if the question is still this task's.

        :param client: the triggerer's shared client.
        """
        from helmr_provider._sessions.identity import ownership_member

        token = await client.tokens.retrieve(self.token_id)
        if not token.is_pending or ownership_member(token.metadata, "owner") != self.owner:
            self.log.info("Token %s is not this task's to cancel.", self.token_id)
            return
        try:
            await client.tokens.cancel(self.token_id)
        except HelmrApiError as error:
            self.log.info("Token %s had ended already: %s", self.token_id, error)
        else:
            self.log.info("Cancelled token %s.", self.token_id)

    async def _outcome(self) -> dict[str, Any]:
        from helmr_provider.triggers._shared_client import shared_client

        outcome = await super()._outcome()
        if outcome["status"] != "timeout":
            return outcome
        try:
            async with asyncio.timeout(_LATE_SECONDS), shared_client(self.helmr_conn_id) as client:
                if await self._answer_late(client):
                    return {"status": "ended"}
        except (HelmrError, TimeoutError) as error:
            self.log.warning("Nothing was answered in the triggerer at the end of the time: %s", error)
        return outcome

    async def _answer_late(self, client: AsyncHelmrClient) -> bool:
        """Take an answer of the last moment, or the default; say whether there is either."""
        if (row := await self._answered_before()) is not None:
            await self._pass_on(client, row)
            return True
        token = await client.tokens.retrieve(self.token_id)
        question = self._question(token)
        default = None if question is None else question.default(datetime.now(UTC))
        if default is None:
            return not token.is_pending
        await self._complete(client, default)
        await self._close(await client.tokens.retrieve(self.token_id))
        return True

    async def _first_answer(self, client: AsyncHelmrClient, ti_id: str, remaining: float | None) -> Row | None:
        """Wait for the first answer; return Airflow's if it is that one."""
        from helmr_provider.client._waiting.actions import WaitKey

        key = WaitKey("required action", ti_id)
        in_airflow = asyncio.ensure_future(
            waiter_of(client).until(key, lambda _: self._row(ti_id), lambda row: row.response is not None, remaining)
        )
        in_helmr = asyncio.ensure_future(waiter_of(client).token(self.token_id, timeout=remaining))
        try:
            await asyncio.wait([in_airflow, in_helmr], return_when=asyncio.FIRST_COMPLETED)
            return in_airflow.result() if in_airflow.done() and not in_helmr.done() else None
        finally:
            in_airflow.cancel()
            in_helmr.cancel()
            await asyncio.gather(in_airflow, in_helmr, return_exceptions=True)

    async def _answered_before(self) -> Row | None:
        """Read whether Airflow has an answer that resumed no task: it came between the question and the wait."""
        if self.ti_id is None:
            return None
        row = await self._row(self.ti_id)
        return None if row.response is None else row

    async def _row(self, ti_id: str) -> Row:
        if not hitl.is_readable():
            return hitl.Row(there=True)
        try:
            return await hitl.read(ti_id)
        except Exception as error:  # noqa: BLE001 - Airflow has no error of its own for it
            self.log.warning("Airflow cannot be asked whether the question was answered there: %s", error)
            return hitl.Row(there=True)

    async def _pass_on(self, client: AsyncHelmrClient, row: Row) -> None:
        """Complete the token with the answer from Airflow, after any outage of the control plane."""
        from helmr_provider.client._waiting.actions import WaitKey

        async def complete(quick: AsyncHelmrClient) -> None:
            question = self._question(await quick.tokens.retrieve(self.token_id))
            if question is not None and row.response is not None:
                await self._complete(quick, hitl.answer_of(question, row.response))

        await waiter_of(client).until(WaitKey("approval", self.token_id), complete, lambda _: True)

    async def _complete(self, client: AsyncHelmrClient, answer: Answer) -> None:
        try:
            await client.tokens.complete(self.token_id, answer.data)
        except (HelmrConflictError, HelmrGoneError) as error:
            self.log.info("The token had ended before this answer came: %s", error)

    async def _close(self, token: Token) -> None:
        """Close the question in Airflow with what completed the token."""
        from helmr_provider._approvals.question import AnswerError

        question = self._question(token)
        if self.ti_id is None or question is None or token.status != "completed" or not hitl.is_readable():
            return
        try:
            answer = question.read(token.data, noticed=datetime.now(UTC))
            if not await hitl.close(self.ti_id, answer):
                self.log.info("The question was answered in Airflow, too; the token was first.")
        except AnswerError as error:
            self.log.warning("The token was completed with something that is no answer: %s", error)
        except Exception as error:  # noqa: BLE001 - the answer counts, not how it is shown
            self.log.warning("The question could not be closed in Airflow: %s", error)

    def _question(self, token: Token) -> Question | None:
        from helmr_provider._approvals.question import Question

        return Question.of(token.metadata)

    async def _is_meant(self, *, unless_deferred: bool) -> bool:
        if self.ti_id is None:
            return await super()._is_meant(unless_deferred=unless_deferred)
        row = await self._row(self.ti_id)
        # An answer in Airflow ends a trigger in the same way as a user's doing does. Without a row another try has
        # begun: a retry waits for this token, and a cleared task withdraws it itself.
        return row.there and row.response is None and await super()._is_meant(unless_deferred=unless_deferred)
