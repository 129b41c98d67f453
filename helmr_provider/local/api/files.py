"""Files of workspace versions over HTTP: what an archive holds, never what a live workspace's directory holds."""

from __future__ import annotations

import re
import tarfile
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.responses import Response

from helmr_provider.local.api.request import answer
from helmr_provider.local.api.workspaces import addressed
from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import is_uuid
from helmr_provider.local.common.threads import in_thread
from helmr_provider.local.state import versions
from helmr_provider.local.storage.archives import Entry

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from helmr_provider.local.api.request import ApiRequest
    from helmr_provider.local.storage.database import Row

_MOST_BYTES = 32 * 1024 * 1024
_ROOT = Entry(".", "directory")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


async def list_workspace_files(request: ApiRequest) -> ASGIApp:
    """List the entries of a directory, a page at a time (listWorkspaceFiles)."""
    limit = request.limit(200, 500)
    requested = await _requested(request, "list workspace files", request.query.get("path", "") or ".")
    if requested.entry().kind != "directory":
        raise ApiError(422, "workspace file is not a directory", "workspace_file_not_directory")
    after = request.query.get("cursor", "")
    children = [
        path for path in sorted(requested.entries) if path.rpartition("/")[0] == requested.path and path > after
    ]
    page: dict[str, Any] = {
        "path": requested.shown,
        "entries": [_rendered(requested.entries[path], named=True) for path in children[:limit]],
    }
    if len(children) > limit:
        page["next_cursor"] = children[limit - 1]
    return answer(page)


async def stat_workspace_file(request: ApiRequest) -> ASGIApp:
    """Describe the file at a path (statWorkspaceFile)."""
    requested = await _requested(request, "stat workspace file", _required_path(request))
    return answer({"entry": _rendered(requested.entry(), named=False)})


async def read_workspace_file(request: ApiRequest) -> ASGIApp:
    """Read a regular file (readWorkspaceFile)."""
    requested = await _requested(request, "read workspace file", _required_path(request))
    entry = requested.entry()
    if entry.kind != "file":
        raise ApiError(422, "workspace file is not a regular file", "workspace_file_not_regular")
    if entry.size > _MOST_BYTES:
        raise ApiError(413, "workspace file is too large", "workspace_file_too_large")
    try:
        content = await in_thread(request.core.files.read, requested.version["content_digest"], entry)
    except (OSError, tarfile.TarError):
        raise _damaged() from None
    response = Response(content, media_type="application/octet-stream")
    # The path is sent as it is, in UTF-8, which Starlette's own headers cannot hold.
    response.raw_headers.extend(
        (name.encode(), _CONTROL.sub(" ", value).strip().encode("utf-8", "replace"))
        for name, value in (
            ("x-helmr-workspace-file-mode", str(entry.mode)),
            ("x-helmr-workspace-file-path", entry.path),
            ("x-helmr-workspace-file-size", str(entry.size)),
            ("x-helmr-workspace-version-id", requested.version["id"]),
        )
    )
    return response


class _RequestedPath(NamedTuple):
    """A path in a version: as it was sent, as it is meant, and what the version holds."""

    shown: str
    path: str
    version: Row
    entries: dict[str, Entry]

    def entry(self) -> Entry:
        """Return the entry at the path.

        :raises ApiError: 404 if nothing does.
        """
        if not self.path:
            return _ROOT
        entry = self.entries.get(self.path)
        if entry is None:
            raise ApiError(404, "workspace file not found", "workspace_file_not_found")
        return entry


async def _requested(request: ApiRequest, what: str, shown: str) -> _RequestedPath:
    workspace = addressed(request)
    version = _version(request, workspace, what)
    if shown.startswith("/") or ".." in shown.split("/") or "\0" in shown:
        raise request.defect(ApiError(500, what), ApiError(400, "path must be relative and stay in the workspace"))
    path = "/".join(part for part in shown.split("/") if part not in ("", "."))
    try:
        entries = await in_thread(request.core.files.index, version["content_digest"])
    except (OSError, tarfile.TarError):
        raise _damaged() from None
    return _RequestedPath(shown, path, version, entries)


def _version(request: ApiRequest, workspace: Row, what: str) -> Row:
    source = request.text("source") or "current"
    version_id = request.text("version_id")
    if source == "live":
        raise ApiError(501, "source=live is not implemented", "workspace_source_live_unsupported")
    if source not in ("current", "version"):
        raise request.defect(ApiError(500, what), ApiError(400, "source must be current, version, or live"))
    if request.text("materialization_id") is not None:
        text = "materialization_id is only accepted when source=live"
        raise ApiError(400, text, "workspace_materialization_id_unexpected")
    if source == "current":
        if version_id is not None:
            text = "version_id is only accepted when source=version"
            raise ApiError(400, text, "workspace_version_id_unexpected")
        return versions.find(request.core, workspace, workspace["current_version_id"])
    if version_id is None:
        raise ApiError(400, "version_id is required when source=version", "workspace_version_id_required")
    if not is_uuid(version_id):
        raise request.defect(ApiError(500, what), ApiError(400, "version_id must be a UUID"))
    return versions.find(request.core, workspace, version_id.lower())


def _required_path(request: ApiRequest) -> str:
    path = request.query.get("path", "")
    if not path.strip():
        raise ApiError(400, "path is required")
    return path


def _rendered(entry: Entry, *, named: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"path": entry.path}
    if named:
        answer["name"] = entry.path.rpartition("/")[2]
    answer |= {"kind": entry.kind, "size_bytes": entry.size, "mode": entry.mode}
    if entry.link_target is not None:
        answer["link_target"] = entry.link_target
    if entry.modified is not None:
        answer["mod_time"] = rfc3339(entry.modified)
    return answer


def _damaged() -> ApiError:
    text = "workspace version artifact is missing or corrupt"
    return ApiError(409, text, "workspace_version_artifact_missing")
