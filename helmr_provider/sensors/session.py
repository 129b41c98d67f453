"""Wait for a session, or for what it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from airflow.providers.common.compat.sdk import AirflowFailException, PokeReturnValue

from helmr_provider._common.results import ResultOptions
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import address, check_session_ref, sequence, shown, stream_name
from helmr_provider.links import HelmrSessionLink, session_url, store_links
from helmr_provider.sensors._base import HelmrSensor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.client.models.sessions import SessionSnapshot
    from helmr_provider.client.models.streams import StreamRecord
    from helmr_provider.triggers.session import HelmrSessionOutputTrigger, HelmrSessionTrigger

STATUSES: Final = ("open", "closed", "cancelled", "expired")
ACTIVITIES: Final = ("idle", "queued", "running", "waiting")

_PAGE: Final = 100


class _SessionSensor(HelmrSensor):
    """A sensor of one session.

    :param session_id: the session. (templated)
    :param external_id: its external id instead. (templated)
    """

    session_id = TemplateField[str | None](text)
    external_id = TemplateField[str | None](text)

    operator_extra_links = (HelmrSessionLink(),)
    ui_color = "#e8e4f8"

    def __init__(self, *, session_id: str | None = None, external_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.session_id = session_id
        self.external_id = external_id
        check_session_ref(session_id, external_id)

    def _session(self, context: Context) -> SessionSnapshot:
        session = self.hook.client.sessions.retrieve(**address(self.session_id, self.external_id))
        store_links(context, console_url=self.hook.settings.console_url, session_id=session.id)
        return session

    def _has_ended(self, session: SessionSnapshot) -> AirflowFailException:
        return AirflowFailException(
            f"Helmr session {session.id} is {session.status}: {self.awaited} cannot occur any more. "
            f"See {session_url(self.hook.settings.console_url, session.id)}"
        )


class HelmrSessionSensor(_SessionSensor):
    """Wait until a session has a status, an activity, or both.

    A session that is no longer open is ``idle`` and never changes again. If it cannot reach the wanted state any more,
    the task fails permanently; ``soft_fail`` applies to the time limit only. The sensor never ends the session.

    Needs the scope ``runs:read`` (operation getSession).

    .. seealso:: Guide: :doc:`/how-to/conversations`

    :param session_id: the session. (templated)
    :param external_id: its external id instead. (templated)
    :param status: wanted status, or several: ``open``, ``closed``, ``cancelled``, ``expired``. Any one by default.
    :param activity: wanted activity, or several: ``idle``, ``queued``, ``running``, ``waiting``. Any one by default.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param poke_interval: time between two polls when not deferred; timedelta, seconds, or text such as ``"30s"``. The
        triggerer has its own pace.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``. An
        ``execution_timeout`` that is earlier counts.
    :return: ``{"session_id": …, "status": …, "activity": …}``.
    :raises AirflowFailException: the session has ended otherwise, or cannot be read.
    :raises AirflowSensorTimeout: it had not reached the wanted state within the limit.
    """

    template_fields: Collection[str] = ("session_id", "external_id", "helmr_conn_id")

    def __init__(
        self, *, status: str | Collection[str] = (), activity: str | Collection[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.status = _known("status", status, STATUSES)
        self.activity = _known("activity", activity, ACTIVITIES)
        if not (self.status or self.activity):
            raise ValueError("Give a status or an activity to wait for.")

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        wanted = [" or ".join(names) for names in (self.status, self.activity) if names]
        return f"{shown(self.session_id, self.external_id)} to be {' and '.join(wanted)}"

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Read the session once.

        :param context: of the task instance.
        :param ids: none; a sensor submits nothing.
        """
        from helmr_provider.triggers.session import reached

        session = self._session(context)
        if reached(session, self.status, self.activity):
            value = {"session_id": session.id, "status": session.status, "activity": session.activity}
            return PokeReturnValue(is_done=True, xcom_value=value)
        if not session.is_open:
            raise self._has_ended(session)
        return PokeReturnValue(is_done=False)

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrSessionTrigger:
        """Return the trigger that waits.

        :param ids: none; a sensor submits nothing.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.session import HelmrSessionTrigger

        return HelmrSessionTrigger(
            helmr_conn_id=self.helmr_conn_id,
            session_id=self.session_id,
            external_id=self.external_id,
            statuses=self.status,
            activities=self.activity,
            deadline=deadline,
        )


class HelmrSessionOutputSensor(ResultOptions, _SessionSensor):
    """Wait for the next record on an output stream of a session, and return its data.

    If the session ends without such a record, the task fails permanently; ``soft_fail`` applies to the time limit only.

    Needs the scopes ``session-streams:read`` and ``runs:read`` (operations listSessionOutputRecords, getSession).

    .. seealso:: Guide: :doc:`/how-to/conversations`

    :param session_id: the session. (templated)
    :param external_id: its external id instead. (templated)
    :param stream: output stream that the deployed task declares. (templated)
    :param after: only records behind this sequence, such as the XCom ``cursor`` of a sensor before this one; a whole
        number, or a template of one. (templated)
    :param correlation_id: only records with it. (templated)
    :param matches: function of a record's data that returns whether it is the awaited record. Default: the first one.
        It is called on a worker, once for each record; a deferred sensor resumes for it and defers again.
    :param result: what to return of the record: its ``"data"``, or the whole ``"record"`` with its ``sequence``,
        ``correlation_id`` and ``created_at``.
    :param max_result_bytes: largest result as JSON that may become an XCom; ``None`` for no limit.
    :param result_to: path or address such as ``"s3://bucket/result.json"`` to write the result to as JSON, instead of
        returning it; one that ends with ``/`` gets a file name. The return value is the address then. (templated)
    :param result_to_conn_id: Airflow connection for ``result_to``.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param poke_interval: time between two polls when not deferred; timedelta, seconds, or text such as ``"30s"``. The
        triggerer has its own pace.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``. An
        ``execution_timeout`` that is earlier counts.
    :return: as ``result`` says. The XCom ``cursor`` is the sequence of the record.
    :raises AirflowFailException: the session has ended without it, or cannot be read; the result is too large.
    :raises AirflowSensorTimeout: there was no such record within the limit.
    """

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

    def __init__(
        self,
        *,
        stream: str,
        after: int | str = 0,
        correlation_id: str | None = None,
        matches: Callable[[Any], bool] | None = None,
        result: Literal["data", "record"] = "data",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stream = stream
        self.after = after
        self.correlation_id = correlation_id
        self.matches = matches
        self.result: Literal["data", "record"] = result
        self._passed = 0
        if result not in {"data", "record"}:
            raise ValueError("result must be 'data' or 'record'")

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        return f"a record of {shown(self.session_id, self.external_id)} on output stream {self.stream!r}"

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Poll for the record once.

        :param context: of the task instance.
        :param ids: none; a sensor submits nothing.
        """
        # Before the records: one that ends after this has written all that it will by then.
        session = self._session(context)
        for record in self._records(session.id):
            if self.matches is None or self.matches(record.data):
                return self._found(context, record)
            self._passed = record.sequence
        if not session.is_open:
            raise self._has_ended(session)
        return PokeReturnValue(is_done=False)

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrSessionOutputTrigger:
        """Return the trigger that waits.

        :param ids: none; a sensor submits nothing.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.session import HelmrSessionOutputTrigger

        return HelmrSessionOutputTrigger(
            helmr_conn_id=self.helmr_conn_id,
            session_id=self.session_id,
            external_id=self.external_id,
            stream=stream_name("stream", self.stream),
            after=self._cursor,
            correlation_id=self.correlation_id,
            deadline=deadline,
        )

    @property
    def _cursor(self) -> int:
        return max(self._passed, sequence("after", self.after))

    def _records(self, session_id: str) -> Iterator[StreamRecord[Any]]:
        stream = self.hook.client.sessions.open(session_id).output(stream_name("stream", self.stream))
        page = 1 if self.matches is None else _PAGE
        return stream.iter(after=self._cursor, limit=page, correlation_id=self.correlation_id)

    def _found(self, context: Context, record: StreamRecord[Any]) -> PokeReturnValue:
        result = record.data if self.result == "data" else record.raw
        name = f"Record {record.sequence} of output stream {self.stream!r}"
        value = self._return_or_write(result, name, f"{record.id}.json")
        if self.do_xcom_push:
            context["ti"].xcom_push(key="cursor", value=record.sequence)
        return PokeReturnValue(is_done=True, xcom_value=value)


def _known(name: str, value: str | Collection[str], known: tuple[str, ...]) -> list[str]:
    wanted = [value] if isinstance(value, str) else list(value)
    if unknown := [word for word in wanted if word not in known]:
        raise ValueError(f"{name} takes {', '.join(known)}, but not {', '.join(unknown)}")
    return wanted
