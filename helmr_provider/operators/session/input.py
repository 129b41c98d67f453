"""Send input to a session, and wait for the run or the output record that answers it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import AirflowFailException, PokeReturnValue

from helmr_provider._common.errors import explain
from helmr_provider._common.results import ResultOptions
from helmr_provider._common.sans_io import run_steps
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import address, check_session_ref, shown, stream_name
from helmr_provider._sessions.identity import OwnershipMetadata
from helmr_provider.client.errors import HelmrConflictError, HelmrError
from helmr_provider.links import HelmrRunLink, HelmrSessionLink, run_url, store_links
from helmr_provider.operators._base import HelmrWaitingOperator

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider._sessions.turns import Turn, TurnPoller, TurnState
    from helmr_provider.client.models.streams import SentRecord
    from helmr_provider.triggers.session import HelmrTurnTrigger


class HelmrSendInputOperator(ResultOptions, HelmrWaitingOperator):
    """Send a record into an input stream of a session, and wait for the turn that it begins.

    A task instance sends the record at most once: a retry finds the record of an earlier try and waits for the same
    turn; only a clear sends another one. A waiting run takes the record. Otherwise a live run may still take it, or the
    record starts a new run as soon as the live one has ended. The record cannot be taken back: when the task is ended,
    the session continues.

    Needs the scopes ``session-input:send``, ``session-streams:read`` and ``runs:read`` (operations appendSessionInput,
    listSessionInputRecords, listSessionOutputRecords, getSession, listSessionRuns, getRun, getRunEvents).

    .. seealso:: Guide: :doc:`/how-to/conversations`

    :param session_id: the session, as :class:`HelmrStartSessionOperator` returns it. (templated)
    :param external_id: its external id instead. (templated)
    :param stream: input stream that the deployed task declares. (templated)
    :param data: JSON value to send; must be the same in every try. Not for secrets. (templated)
    :param correlation_id: kept with the record, so that the session can answer with it. (templated)
    :param content_type: of the data, ``application/json`` by default. (templated)
    :param wait_for: ``"none"``; the end of the ``"run"`` that takes the record; or the next ``"output"`` record.
    :param output_stream: output stream whose next record after the send is the answer, for ``"output"``. (templated)
    :param match_correlation_id: whether only an output record with the same ``correlation_id`` is the answer.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``, from the start
        of the try. An ``execution_timeout`` that is earlier counts.
    :param max_result_bytes: largest result as JSON that may become an XCom; ``None`` for no limit.
    :param result_to: path or address such as ``"s3://bucket/result.json"`` to write the result to as JSON, instead of
        returning it; one that ends with ``/`` gets a file name. The return value is the address then. (templated)
    :param result_to_conn_id: Airflow connection for ``result_to``.
    :return: the run's output; the data of the output record; or, for ``"none"``, the XComs as one object. XComs are
        ``session_id``, ``stream``, ``sequence`` of the record, ``run_id`` once it is known, and ``cursor``, the
        sequence of the output record.
    :raises AirflowFailException: the session takes no input, or does not exist; other data were sent before; the run
        that took the record did not succeed, or wrote no answer; the result is too large.
    :raises AirflowTaskTimeout: the turn had not ended within the limit.
    """

    session_id = TemplateField[str | None](text)
    external_id = TemplateField[str | None](text)
    stream = TemplateField[str](text)
    correlation_id = TemplateField[str | None](text)
    content_type = TemplateField[str | None](text)
    output_stream = TemplateField[str | None](text)

    template_fields: Collection[str] = (
        "session_id",
        "external_id",
        "stream",
        "data",
        "correlation_id",
        "content_type",
        "output_stream",
        "result_to",
        "helmr_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"data": "json"}
    operator_extra_links = (HelmrSessionLink(), HelmrRunLink())
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        session_id: str | None = None,
        external_id: str | None = None,
        stream: str,
        data: Any,
        correlation_id: str | None = None,
        content_type: str | None = None,
        wait_for: Literal["none", "run", "output"] = "none",
        output_stream: str | None = None,
        match_correlation_id: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.session_id = session_id
        self.external_id = external_id
        self.stream = stream
        self.data = data
        self.correlation_id = correlation_id
        self.content_type = content_type
        self.wait_for: Literal["none", "run", "output"] = wait_for
        self.output_stream = output_stream
        self.match_correlation_id = match_correlation_id
        self._poller: TurnPoller | None = None
        self._pushed_run_id: str | None = None
        check_session_ref(session_id, external_id)
        if wait_for not in {"none", "run", "output"}:
            raise ValueError("wait_for must be 'none', 'run' or 'output'")
        if (wait_for == "output") != (output_stream is not None):
            raise ValueError("output_stream goes with wait_for='output', and is needed there")

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        return f"the turn of {shown(self.session_id, self.external_id)} that input stream {self.stream!r} begins"

    def submit(self, context: Context) -> dict[str, Any]:
        """Send the record, or find it sent.

        :param context: of the task instance.
        """
        from helmr_provider._sessions.turns import Turn, with_waiting_run

        client = self.hook.client
        stream = stream_name("stream", self.stream)
        output = None if self.output_stream is None else stream_name("output_stream", self.output_stream)
        session_id = client.sessions.retrieve(**address(self.session_id, self.external_id)).id
        # Before the send: a turn whose answer can't be read must not begin.
        after = 0 if output is None else self._output_so_far(session_id, output)
        sent = self._send(context, session_id, stream)
        turn = Turn(
            session_id=session_id,
            stream=stream,
            sequence=sent.sequence,
            output=output,
            # As it was stored: trimmed, and none at all if it was empty.
            correlation_id=sent.record.correlation_id if output is not None and self.match_correlation_id else None,
            # A repeated send can't tell what there was before the first one.
            after=0 if sent.is_duplicate else after,
        )
        if not sent.is_duplicate and sent.continuation_status is None:
            turn = run_steps(client, with_waiting_run(turn, sent.record))
        self.log.info(
            "Record %s of input stream %r %s.",
            turn.sequence,
            turn.stream,
            "was sent by an earlier try" if sent.is_duplicate else "is sent",
        )
        self._push(context, session_id=session_id, stream=turn.stream, sequence=turn.sequence)
        store_links(context, console_url=self.hook.settings.console_url, session_id=session_id)
        return turn.ids

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Poll for the run, its end, or the answer.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        from helmr_provider._sessions.turns import Turn, TurnPoller

        turn = Turn(**ids)
        if self._poller is None or self._poller.turn != turn:
            self._poller = TurnPoller(turn)
        if self.wait_for == "none":
            seen = None
            # The record is sent; which run takes it is only nice to know.
            with suppress(HelmrError):
                seen = run_steps(self.hook.client, self._poller.poll())
            return PokeReturnValue(is_done=True, xcom_value=self._ids(context, turn, seen))
        seen = run_steps(self.hook.client, self._poller.poll())
        self._ids(context, turn, seen)
        return self._result(context, turn, seen)

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrTurnTrigger:
        """Return the trigger that waits.

        :param ids: as returned by :meth:`submit`.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.session import HelmrTurnTrigger

        return HelmrTurnTrigger(helmr_conn_id=self.helmr_conn_id, deadline=deadline, **ids)

    def on_time_limit(self, context: Context, ids: dict[str, Any]) -> str:
        """Say that the session continues: its record cannot be taken back.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        return "The session continues, and a retry waits for the same turn."

    def _output_so_far(self, session_id: str, name: str) -> int:
        session = self.hook.client.sessions.open(session_id)
        for stream in session.streams():
            if (stream.direction, stream.name) == ("output", name):
                return stream.sequence
        # A stream may show up with its first use only; this is refused if it isn't declared.
        session.output(name).read()
        return 0

    def _send(self, context: Context, session_id: str, stream: str) -> SentRecord:
        stamp = OwnershipMetadata.of(context["ti"], context["dag_run"])
        try:
            return (
                self.hook.client.sessions.open(session_id)
                .input(stream)
                .send(
                    self.data,
                    content_type=self.content_type,
                    correlation_id=self.correlation_id,
                    idempotency_key=stamp.identity(self.hook.settings.session_prefix).input_key(stamp.epoch),
                )
            )
        except HelmrConflictError as error:
            if error.code != "idempotency_fingerprint_mismatch":
                raise
            raise AirflowFailException(
                "An earlier try of this task has sent other data, or another correlation id or content type. They must "
                "be the same in every try, so don't template the time or the try number; clear the task to send anew."
            ) from None

    def _ids(self, context: Context, turn: Turn, seen: TurnState | None) -> dict[str, Any]:
        ids: dict[str, Any] = {"session_id": turn.session_id, "stream": turn.stream, "sequence": turn.sequence}
        run_id = turn.run_id if seen is None or seen.run is None else seen.run.id
        if run_id is not None:
            ids["run_id"] = run_id
            self._push_run(context, turn.session_id, run_id)
        return ids

    def _push_run(self, context: Context, session_id: str, run_id: str) -> None:
        if self._pushed_run_id != run_id:
            self._push(context, run_id=run_id)
            console_url = self.hook.settings.console_url
            store_links(context, console_url=console_url, session_id=session_id, run_id=run_id)
        self._pushed_run_id = run_id

    def _result(self, context: Context, turn: Turn, seen: TurnState) -> PokeReturnValue:
        if (answer := seen.answer) is not None:
            self._push(context, cursor=answer.sequence)
            what = f"Record {answer.sequence} of output stream {turn.output!r}"
            name = f"{turn.session_id}-{turn.output}-{answer.sequence}.json"
            return PokeReturnValue(is_done=True, xcom_value=self._return_or_write(answer.data, what, name))
        if seen.ended is not None:
            raise AirflowFailException(
                f"Helmr session {turn.session_id} is {seen.ended}, and no run is known to have taken record "
                f"{turn.sequence} of its input stream {turn.stream!r}."
            )
        if (run := seen.run) is None or not run.is_terminal:
            return PokeReturnValue(is_done=False)
        url = run_url(self.hook.settings.console_url, run.session_id, run.id)
        if not run.is_success:
            # The record has had its run, so a retry would only find this one again.
            raise AirflowFailException(explain(self.hook.client, run, url=url))
        if turn.output is not None:
            suffix = "" if turn.correlation_id is None else f" with correlation id {turn.correlation_id!r}"
            raise AirflowFailException(
                f"Helmr run {run.id} has taken record {turn.sequence} and succeeded, but wrote no record{suffix} to "
                f"output stream {turn.output!r}. See {url}"
            )
        value = self._return_or_write(run.output, f"The output of Helmr run {run.id}", f"{run.id}.json")
        return PokeReturnValue(is_done=True, xcom_value=value)

    def _push(self, context: Context, **values: Any) -> None:
        if self.do_xcom_push:
            for key, value in values.items():
                context["ti"].xcom_push(key=key, value=value)
