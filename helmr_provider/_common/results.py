"""Return a result from a task, or write it to a path or object storage and return the address."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from helmr_provider._common.errors import DEFAULT_MAX_RESULT_BYTES, small_enough
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import require_id

if TYPE_CHECKING:
    from helmr_provider.client.models.runs import RunSnapshot


class ResultOptions(BaseOperator):
    """The parameters of an operator or sensor that say where its result goes.

    :param max_result_bytes: largest result as JSON that may become an XCom; ``None`` for no limit.
    :param result_to: path or address to write the result to instead of returning it. (templated)
    :param result_to_conn_id: Airflow connection for ``result_to``.
    """

    result_to = TemplateField[str | None](text)

    def __init__(
        self,
        *,
        max_result_bytes: int | None = DEFAULT_MAX_RESULT_BYTES,
        result_to: str | None = None,
        result_to_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_result_bytes = max_result_bytes
        self.result_to = result_to
        self.result_to_conn_id = result_to_conn_id

    @property
    def _max_xcom_bytes(self) -> int | None:
        """Largest result that may be returned; ``None`` for no limit, also if it does not become an XCom."""
        return self.max_result_bytes if self.do_xcom_push and self.result_to is None else None

    def _run_result(self, run: RunSnapshot, result: Literal["output", "snapshot"]) -> Any:
        """Return or write the output of a run, or all of it.

        :raises AirflowFailException: the result is too large, or ``result_to`` was rendered to nothing.
        """
        value = run.output if result == "output" else run.raw
        return self._return_or_write(value, f"The {result} of Helmr run {run.id}", f"{run.id}.json")

    def _return_or_write(self, value: Any, name: str, file_name: str) -> Any:
        """Return a value if it may become an XCom, or write it as JSON and return the address.

        :param value: any JSON value.
        :param name: its name, for the error.
        :param file_name: name of the file if ``result_to`` ends with a slash.
        :raises AirflowFailException: the value is too large, or ``result_to`` was rendered to nothing.
        """
        if self.result_to is None:
            return small_enough(value, name, max_bytes=self._max_xcom_bytes)
        return self._write_result(json.dumps(value, ensure_ascii=False).encode(), file_name)

    def _write_result(self, content: bytes, file_name: str) -> str:
        return write(
            "result_to",
            self.result_to,
            content,
            conn_id=self.result_to_conn_id,
            file_name=file_name,
            log=self.log,
        )


def write(name: str, to: str | None, content: bytes, *, conn_id: str | None, file_name: str, log: Any) -> str:
    """Write to a path or object storage, and return the address.

    :param name: name of the parameter that holds the address.
    :param to: path or address such as ``s3://bucket/report.json``; one that ends with a slash gets the file's name.
    :param content: what to write.
    :param conn_id: Airflow connection for the address.
    :param file_name: name of the file if ``to`` ends with a slash.
    :param log: of the task.
    :raises AirflowFailException: the address was rendered to nothing.
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    address = require_id(name, to)
    if address.endswith("/"):
        address += file_name
    # A conn_id of None would replace the connection that the address names.
    options = {} if conn_id is None else {"conn_id": conn_id}
    target = ObjectStoragePath(address, **options)
    if target.protocol in {"", "file"}:
        # Object storage needs no folders, and making them can create buckets.
        target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    log.info("Wrote %d bytes to %s.", len(content), target)
    return str(target)
