"""Send a message to a Helmr session from callbacks and deadline alerts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.common.compat.sdk import AirflowException

from helmr_provider._common.errors import one_line
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import address, check_session_ref, shown, stream_name
from helmr_provider.client.errors import HelmrError
from helmr_provider.hooks.helmr import HelmrHook

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.providers.common.compat.sdk import Context


# The text of an object without one of its own contains its address, which differs between processes.
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


class HelmrNotifier(BaseNotifier):
    """Send a message to an input stream of a session, where an agent waits for it or is started by it.

    For callbacks such as ``on_failure_callback`` and, from Airflow 3.1 on, for ``AsyncCallback(HelmrNotifier, {…})`` of
    a deadline alert. One event sends one record, however often Airflow calls: the record's idempotency key is derived
    from the context. A message that cannot be sent is logged, and no task fails for it.

    Needs the scope ``session-input:send`` (operation appendSessionInput).

    .. seealso:: Guide: :doc:`/how-to/notifications`

    :param session_id: the session. (templated)
    :param external_id: its external id instead. (templated)
    :param stream: input stream that the deployed task declares. (templated)
    :param message: JSON value to send; not for secrets. (templated)
    :param correlation_id: kept with the record. (templated)
    :param content_type: of the message, ``application/json`` by default. (templated)
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :param kwargs: Airflow passes the context of a deadline alert in this way.
    """

    session_id = TemplateField[str | None](text)
    external_id = TemplateField[str | None](text)
    stream = TemplateField[str](text)
    correlation_id = TemplateField[str | None](text)
    content_type = TemplateField[str | None](text)
    helmr_conn_id = TemplateField[str](text)

    template_fields: Sequence[str] = (
        "session_id",
        "external_id",
        "stream",
        "message",
        "correlation_id",
        "content_type",
        "helmr_conn_id",
    )

    def __init__(
        self,
        *,
        session_id: str | None = None,
        external_id: str | None = None,
        stream: str,
        message: Any,
        correlation_id: str | None = None,
        content_type: str | None = None,
        helmr_conn_id: str = HelmrHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.session_id = session_id
        self.external_id = external_id
        self.stream = stream
        self.message = message
        self.correlation_id = correlation_id
        self.content_type = content_type
        self.helmr_conn_id = helmr_conn_id
        check_session_ref(session_id, external_id)

    def notify(self, context: Context) -> None:
        """Send the message, from a worker or the DAG processor.

        :param context: of the event.
        """
        hook = HelmrHook(self.helmr_conn_id)
        try:
            session = hook.client.sessions.open(**address(self.session_id, self.external_id))
            session.input(stream_name("stream", self.stream)).send(self.message, **self._options(context))
        except (AirflowException, HelmrError, TypeError, ValueError) as error:
            self._not_sent(error)
        finally:
            hook.close()

    async def async_notify(self, context: Context) -> None:
        """Send the message, from the triggerer.

        :param context: of the event.
        """
        from helmr_provider.triggers._shared_client import shared_client

        try:
            async with shared_client(self.helmr_conn_id) as client:
                session = client.sessions.open(**address(self.session_id, self.external_id))
                await session.input(stream_name("stream", self.stream)).send(self.message, **self._options(context))
        except (AirflowException, HelmrError, TypeError, ValueError) as error:
            self._not_sent(error)

    def _options(self, context: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "content_type": self.content_type,
            "correlation_id": self.correlation_id,
            "idempotency_key": self._key(context),
        }

    def _key(self, context: Mapping[str, Any]) -> str | None:
        from helmr_provider.client._wire.json_values import encode

        event = [_ADDRESS.sub("", each) for each in _event(context)]
        if not event:
            return None
        # A callback for the start and one for the end of a task can tell of the same try.
        message = json.loads(encode(self.message, "The message"))
        what = [*event, message, self.correlation_id, self.content_type]
        return f"airflow-notification:{hashlib.sha256(json.dumps(what).encode()).hexdigest()}"

    def _not_sent(self, error: Exception) -> None:
        where = f"{shown(self.session_id, self.external_id)}, input stream {self.stream!r}"
        self.log.error(
            "The notification was not sent to %s (connection %r): %s", where, self.helmr_conn_id, one_line(error)
        )


def _event(context: Mapping[str, Any]) -> Iterator[str]:
    """Name the event that a context tells of, so far as it does."""
    if deadline := _member(context, "deadline"):
        yield f"deadline {_member(deadline, 'id')}"
        return
    if dag_run := _member(context, "dag_run"):
        yield _named("dag_run", dag_run, "dag_id", "run_id", "dag_run_id", "start_date", "state")
    if ti := _member(context, "ti") or _member(context, "task_instance"):
        yield _named("ti", ti, "dag_id", "run_id", "task_id", "map_index", "try_number", "state")
    if (reason := _member(context, "reason")) is not None:
        yield f"reason {reason}"


def _named(what: str, of: Any, *members: str) -> str:
    return " ".join([what, *(str(_member(of, name)) for name in members)])


def _member(of: Any, name: str) -> Any:
    return of.get(name) if isinstance(of, Mapping) else getattr(of, name, None)
