"""Workspaces, their files and versions as the server shows them (contract/behaviour.md section 13)."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, Field

from helmr_provider.client.models.base import Instant, OptionalText, WireModel


class Workspace(WireModel):
    """A workspace at one moment (schema Workspace).

    :param state: active, deleting, recovery_required, archived or deleted.
    :param desired_state: active, stopped, archived or deleted.
    :param dirty_state: clean, dirty, capturing, capture_failed or dirty_state_lost.
    :param current_version_id: what its next materialization starts from.
    :param is_cached: of a creation only: it existed already under this idempotency key.
    """

    id: str
    project_id: str
    environment_id: str
    deployment_sandbox_id: str
    sandbox_id: str
    sandbox_fingerprint: str
    external_id: OptionalText = None
    current_version_id: OptionalText = None
    state: str
    desired_state: str
    dirty_state: str
    last_materialization_id: OptionalText = None
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    tags: tuple[str, ...] = ()
    auto_stop_at: Instant | None = None
    auto_archive_at: Instant | None = None
    auto_delete_at: Instant | None = None
    last_activity_at: Instant
    created_at: Instant
    updated_at: Instant
    archived_at: Instant | None = None
    deleted_at: Instant | None = None
    is_cached: bool = False


class Materialization(WireModel):
    """A workspace on a machine (schema Materialization).

    :param state: requested, then materializing or restoring, running, capturing or stopping, and at the end stopped,
        lost or failed.
    """

    id: str
    project_id: str
    environment_id: str
    workspace_id: str
    deployment_sandbox_id: str
    base_version_id: OptionalText = None
    worker_instance_id: OptionalText = None
    state: str
    claim_attempt: int = 0
    fencing_generation: int = 0
    dirty_generation: int = 0
    reservation_expires_at: Instant | None = None
    last_heartbeat_at: Instant | None = None
    created_at: Instant
    updated_at: Instant

    @property
    def is_running(self) -> bool:
        """Whether commands run immediately."""
        return self.state == "running"

    @property
    def is_terminal(self) -> bool:
        """Whether it is over."""
        return self.state in {"stopped", "lost", "failed"}


class WorkspaceStop(WireModel):
    """The answer to a stop (schema StopWorkspaceResponse).

    :param state: state of the materialization, normally stopping; or no_active_materialization.
    :param materialization: the live copy that is being stopped; None when nothing was live.
    """

    workspace_id: str
    state: str
    materialization: Materialization | None = Field(
        default=None, validation_alias=AliasChoices("materialization", "mount")
    )


class FileEntry(WireModel):
    """A file, directory or symbolic link (schema FileEntry).

    :param path: relative to the root of the workspace, without a leading slash.
    :param name: last part of the path; in listings only.
    :param kind: file, directory or symlink.
    :param size_bytes: 0 for directories and links.
    :param mode: a Go file mode, whose type bits are not POSIX: use :attr:`permissions` and ``kind``.
    """

    path: str
    name: OptionalText = None
    kind: str
    size_bytes: int = 0
    mode: int = 0
    link_target: OptionalText = None
    mod_time: Instant | None = None

    @property
    def permissions(self) -> int:
        """POSIX permission bits, such as ``0o644``; 0 for a directory known only from its entries."""
        return self.mode & 0o777


class FileList(WireModel):
    """One page of a directory, by path (schema FileList).

    :param path: the directory, ``"."`` for the root.
    :param entries: its direct entries.
    :param next_cursor: pass it to get the next page; None at the end.
    """

    path: str
    entries: tuple[FileEntry, ...] = ()
    next_cursor: OptionalText = None


class WorkspaceVersion(WireModel):
    """A captured state of a workspace (schema WorkspaceVersion).

    :param kind: user or system.
    :param state: ready, because others are not shown.
    """

    id: str
    workspace_id: str
    parent_version_id: OptionalText = None
    kind: str
    state: str
    content_digest: str
    size_bytes: int
    artifact_encoding: str = ""
    artifact_entry_count: int = 0
    message: OptionalText = None
    promoted_at: Instant | None = None
    created_at: Instant
