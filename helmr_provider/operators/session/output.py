"""Read the records that a session has written to an output stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from helmr_provider._common.results import ResultOptions
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import address, check_session_ref, sequence, shown, stream_name
from helmr_provider.links import HelmrSessionLink, store_links
from helmr_provider.operators._base import HelmrOperator

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow.providers.common.compat.sdk import Context


class HelmrReadOutputOperator(ResultOptions, HelmrOperator):
    """Read the records of an output stream of a session that are there; it waits for none.

    .. seealso:: Guide: :doc:`/how-to/conversations`

    :class:`~helmr_provider.sensors.session.HelmrSessionOutputSensor` waits for the next one.

    Needs the scopes ``session-streams:read`` and ``runs:read`` (operations listSessionOutputRecords, getSession).

    :param session_id: the session. (templated)
    :param external_id: its external id instead. (templated)
    :param stream: output stream that the deployed task declares. (templated)
    :param after: only records behind this sequence; a whole number, or a template of one. (templated)
    :param correlation_id: only records with it. (templated)
    :param limit: how many records at most; ``None`` for all that there are.
    :param result: what to return of each record: its ``"data"``, or the whole ``"record"`` with its ``sequence``,
        ``correlation_id`` and ``created_at``.
    :param max_result_bytes: largest result as JSON that may become an XCom; ``None`` for no limit.
    :param result_to: path or address such as ``"s3://bucket/result.json"`` to write the result to as JSON, instead of
        returning it; one that ends with ``/`` gets a file name. The return value is the address then. (templated)
    :param result_to_conn_id: Airflow connection for ``result_to``.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :return: a list, oldest first. The XCom ``cursor`` is the sequence of the last record, or ``after`` if there is
        none: what the next reader or sensor takes as its ``after``.
    :raises AirflowFailException: there is no such session or stream, or the result is too large.
    """

    session_id = TemplateField[str | None](text)
    external_id = TemplateField[str | None](text)
    stream = TemplateField[str](text)
    correlation_id = TemplateField[str | None](text)

    template_fields: Collection[str] = (
        "session_id",
        "external_id",
        "stream",
        "after",
        "correlation_id",
        "result_to",
        "helmr_conn_id",
    )
    operator_extra_links = (HelmrSessionLink(),)
    ui_color = "#e8e4f8"

    def __init__(
        self,
        *,
        session_id: str | None = None,
        external_id: str | None = None,
        stream: str,
        after: int | str = 0,
        correlation_id: str | None = None,
        limit: int | None = 100,
        result: Literal["data", "record"] = "data",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.session_id = session_id
        self.external_id = external_id
        self.stream = stream
        self.after = after
        self.correlation_id = correlation_id
        self.limit = limit
        self.result: Literal["data", "record"] = result
        check_session_ref(session_id, external_id)
        if result not in {"data", "record"}:
            raise ValueError("result must be 'data' or 'record'")
        if limit is not None and limit < 1:
            raise ValueError("limit must be at least 1, or None")

    def execute(self, context: Context) -> Any:
        """Read.

        :param context: of the task instance.
        """
        after, name = sequence("after", self.after), stream_name("stream", self.stream)
        records: list[Any] = []
        with self._translate_errors(f"read output of {shown(self.session_id, self.external_id)}"):
            client = self.hook.client
            session = client.sessions.retrieve(**address(self.session_id, self.external_id))
            page = None if self.limit is None else min(self.limit, 500)
            stream = client.sessions.open(session.id).output(name)
            for record in stream.iter(after=after, limit=page, correlation_id=self.correlation_id):
                records.append(record)
                if len(records) == self.limit:
                    break
        if self.do_xcom_push:
            context["ti"].xcom_push(key="cursor", value=records[-1].sequence if records else after)
        store_links(context, console_url=self.hook.settings.console_url, session_id=session.id)
        value = [record.data if self.result == "data" else record.raw for record in records]
        value_name = f"The list of records of output stream {self.stream!r}"
        return self._return_or_write(value, value_name, f"{session.id}-{name}.json")
