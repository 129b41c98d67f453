"""Return a result from a task, or write it to a path or object storage and return the address."""

from __future__ import annotations

import json
from typing import Any

from helmr_provider._common.errors import small_enough
from helmr_provider._common.validation import require_id


def return_or_write(
    value: Any, what: str, *, to: str | None, conn_id: str | None, file_name: str, max_bytes: int | None, log: Any
) -> Any:
    """Return a value if it may become an XCom, or write it as JSON and return the address.

    :param value: any JSON value.
    :param what: its name, for the error.
    :param to: path or address of object storage; ``None`` returns the value.
    :param conn_id: Airflow connection for the address.
    :param file_name: name of the file if ``to`` ends with a slash.
    :param max_bytes: largest size as JSON of a returned value; ``None`` for no limit.
    :param log: of the task.
    :raises AirflowFailException: the value is larger, or ``to`` was rendered to nothing.
    """
    if to is None:
        return small_enough(value, what, max_bytes=max_bytes)
    content = json.dumps(value, ensure_ascii=False).encode()
    return write("result_to", to, content, conn_id=conn_id, file_name=file_name, log=log)


def write(name: str, to: str, content: bytes, *, conn_id: str | None, file_name: str, log: Any) -> str:
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
