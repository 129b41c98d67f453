"""Read and list the files that were captured of a workspace."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowFailException

from helmr_provider._common.errors import DEFAULT_MAX_RESULT_BYTES
from helmr_provider._common.results import write
from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import require_id
from helmr_provider.links import HelmrWorkspaceLink, store_workspace_link
from helmr_provider.operators._base import HelmrOperator

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.client.models.workspaces import FileEntry


class _FilesOperator(HelmrOperator):
    """What reading and listing have in common: where from, where to, and how much."""

    workspace_id = TemplateField[str](text)
    path = TemplateField[str](text)
    version_id = TemplateField[str | None](text)
    to = TemplateField[str | None](text)

    template_fields: Collection[str] = ("workspace_id", "path", "version_id", "to", "helmr_conn_id")
    operator_extra_links = (HelmrWorkspaceLink(),)
    ui_color = "#e2f2ea"

    def __init__(
        self,
        *,
        workspace_id: str,
        path: str,
        source: Literal["current", "version"] = "current",
        version_id: str | None = None,
        to: str | None = None,
        to_conn_id: str | None = None,
        max_result_bytes: int | None = DEFAULT_MAX_RESULT_BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.workspace_id = workspace_id
        self.path = path
        self.source: Literal["current", "version"] = source
        self.version_id = version_id
        self.to = to
        self.to_conn_id = to_conn_id
        self.max_result_bytes = max_result_bytes
        if source not in {"current", "version"}:
            raise ValueError("source must be 'current' or 'version': a workspace's live files are not served")
        if (version_id is not None) != (source == "version"):
            raise ValueError("version_id goes with source='version', and only with it")

    def execute(self, context: Context) -> Any:
        """Read; return the result, or where it was written to.

        :param context: of the task instance.
        """
        with closing(self.hook):
            workspace_id = require_id("workspace_id", self.workspace_id)
            store_workspace_link(context, console_url=self.hook.settings.console_url, workspace_id=workspace_id)
            try:
                with self._translate_errors(f"read {self.path!r} of Helmr workspace {workspace_id}"):
                    return self._read(workspace_id)
            except ValueError as error:
                raise AirflowFailException(f"{self.path!r} was not read: {error}") from None

    def _read(self, workspace_id: str) -> Any:
        raise NotImplementedError

    @property
    def _from(self) -> dict[str, Any]:
        version_id = require_id("version_id", self.version_id) if self.source == "version" else None
        return {"source": self.source, "version_id": version_id}

    def _write(self, content: bytes) -> str:
        name = self.path.rstrip("/").rpartition("/")[2]
        return write("to", self.to or "", content, conn_id=self.to_conn_id, file_name=name, log=self.log)

    def _refuse_size(self, size: int, what: str) -> None:
        if self.to is None and self.do_xcom_push and self.max_result_bytes is not None and size > self.max_result_bytes:
            raise AirflowFailException(
                f"{what} has {size} bytes, more than max_result_bytes={self.max_result_bytes}. Write it to a path or "
                "object storage with to=…, or raise max_result_bytes if your XCom backend can hold it."
            )


class HelmrReadFileOperator(_FilesOperator):
    """Read a file of a workspace, and return its content, or write it to a path or object storage.

    Files are read from a captured version: stop the workspace (:class:`HelmrStopWorkspaceOperator`) to capture what a
    command has written. Regular files of up to 32 MiB; links are not followed.

    Needs the scope ``workspace-files:read`` (operations statWorkspaceFile, readWorkspaceFile).

    .. seealso:: Guide: :doc:`/how-to/workspaces`

    :param workspace_id: the workspace. (templated)
    :param path: relative to the root of the workspace. (templated)
    :param source: the ``"current"`` version, or the ``"version"`` that ``version_id`` names.
    :param version_id: as returned by :class:`HelmrStopWorkspaceOperator`, for example. (templated)
    :param encoding: how the content becomes the return value: ``"text"`` (UTF-8), ``"json"`` (parsed) or ``"base64"``.
    :param to: path or address such as ``"s3://bucket/report.html"`` to write the bytes to, instead of returning them;
        one that ends with ``/`` gets the file's name. The return value is the address then. (templated)
    :param to_conn_id: Airflow connection for the address.
    :param max_result_bytes: largest content that may become an XCom; ``None`` for no limit.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowFailException: there is no such file, it is not regular, too large, or not what ``encoding`` says.
    """

    def __init__(self, *, path: str, encoding: Literal["text", "json", "base64"] = "text", **kwargs: Any) -> None:
        super().__init__(path=path, **kwargs)
        self.encoding: Literal["text", "json", "base64"] = encoding
        if encoding not in {"text", "json", "base64"}:
            raise ValueError("encoding must be 'text', 'json' or 'base64'")

    def _read(self, workspace_id: str) -> Any:
        files = self.hook.client.workspaces.open(workspace_id).files
        # Asked first, so that what cannot be returned is not transferred.
        self._refuse_size(files.stat(self.path, **self._from).size_bytes, f"The file {self.path!r}")
        content = files.read(self.path, **self._from)
        if self.to is not None:
            return self._write(content)
        if self.encoding == "base64":
            return base64.b64encode(content).decode()
        try:
            text = content.decode()
            return json.loads(text) if self.encoding == "json" else text
        except ValueError as error:
            advice = "; encoding='base64' returns any bytes" if isinstance(error, UnicodeDecodeError) else ""
            raise AirflowFailException(f"The file {self.path!r} is not {self.encoding}: {error}{advice}.") from None


class HelmrListFilesOperator(_FilesOperator):
    """List the entries of a directory of a workspace, and return the list, or write it to a path or object storage.

    As :class:`HelmrReadFileOperator`, it reads a captured version. An entry is ``{"path", "kind", "size_bytes",
    "permissions", "modified", "link_target"}``: kind is file, directory or symlink, permissions are like ``"0644"``,
    and the last two can be None.

    Needs the scope ``workspace-files:read`` (operation listWorkspaceFiles).

    .. seealso:: Guide: :doc:`/how-to/workspaces`

    :param workspace_id: the workspace. (templated)
    :param path: directory, relative to the root of the workspace; the root when left out. (templated)
    :param source: the ``"current"`` version, or the ``"version"`` that ``version_id`` names.
    :param version_id: id of the version. (templated)
    :param to: path or address to write the list to as JSON, instead of returning it; the return value is the address
        then. (templated)
    :param to_conn_id: Airflow connection for the address.
    :param max_result_bytes: largest list as JSON that may become an XCom; ``None`` for no limit.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowFailException: there is no such directory, or its list is too large.
    """

    def __init__(self, *, path: str = "", **kwargs: Any) -> None:
        super().__init__(path=path, **kwargs)

    def _read(self, workspace_id: str) -> Any:
        entries = self.hook.client.workspaces.open(workspace_id).files.iter(self.path, limit=500, **self._from)
        listed = [_shown(entry) for entry in entries]
        content = json.dumps(listed, ensure_ascii=False).encode()
        if self.to is not None:
            return self._write(content)
        self._refuse_size(len(content), f"The list of {self.path or 'the root'!r}")
        return listed


def _shown(entry: FileEntry) -> dict[str, Any]:
    return {
        "path": entry.path,
        "kind": entry.kind,
        "size_bytes": entry.size_bytes,
        "permissions": f"{entry.permissions:04o}",
        "modified": None if entry.mod_time is None else entry.mod_time.isoformat(),
        "link_target": entry.link_target,
    }
