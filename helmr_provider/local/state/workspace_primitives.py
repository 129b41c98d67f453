"""Workspace primitives, as the API calls execs and terminals: rows with a state, made once per idempotency key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.state import chunks, materializations, workspace_keys

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row


@dataclass(frozen=True)
class Primitive:
    """Execs, or terminals.

    :param name: what streams call one: `workspace_exec`, `workspace_pty`.
    :param table: where their rows are.
    :param short: what texts call one.
    :param states: every state.
    :param live: the states that are not the end.
    """

    name: str
    table: str
    short: str
    states: tuple[str, ...]
    live: tuple[str, ...]

    def find(self, core: Core, workspace: Row, resource_id: str) -> Row:
        """Return a row if the workspace has it.

        :raises ApiError: 404 if not.
        """
        row = self.reread(core, resource_id)
        if row["workspace_id"] != workspace["id"]:
            raise self._not_found()
        return row

    def reread(self, core: Core, resource_id: str) -> Row:
        """Return a row.

        :raises ApiError: 404 if there is none.
        """
        row = core.db.one(f"SELECT * FROM {self.table} WHERE id = ?", resource_id)  # noqa: S608 - the name is ours
        if row is None:
            raise self._not_found()
        return row

    def listed(self, core: Core, workspace: Row, state: str | None, limit: int) -> list[Row]:
        """Return the newest rows of a workspace."""
        return core.db.all(
            f"SELECT * FROM {self.table} WHERE workspace_id = ? AND (? IS NULL OR state = ?)"  # noqa: S608 - the name is ours
            " ORDER BY created_at DESC, id DESC LIMIT ?",
            workspace["id"],
            state,
            state,
            limit,
        )

    def unended(self, core: Core, materialization_id: str) -> list[Row]:
        """Return the rows of a materialization that have not ended."""
        rows = core.db.all(
            f"SELECT * FROM {self.table} WHERE materialization_id = ? ORDER BY created_at",  # noqa: S608 - the name is ours
            materialization_id,
        )
        return [row for row in rows if row["state"] in self.live]

    def made_before(self, core: Core, workspace: Row, key: workspace_keys.Key | None, fingerprint: str) -> Row | None:
        """Return what an idempotency key made before.

        :raises ApiError: 500, as the real control plane fails, or 409, if that was another request.
        """
        earlier = None if key is None else workspace_keys.used(core, workspace["id"], self.name, key)
        if earlier is None:
            return None
        if earlier["fingerprint"] != fingerprint:
            raise ApiError(
                500 if core.settings.quirks else 409,
                f"create workspace {self.short}: idempotency_key was already used with different parameters",
                workspace_keys.MISMATCH,
            )
        return self.find(core, workspace, earlier["resource_id"])

    def made(
        self, core: Core, workspace: Row, resource_id: str, key: workspace_keys.Key | None, fingerprint: str
    ) -> Row:
        """Note the key of a new row, let the worker see it, and return it."""
        if key is not None:
            workspace_keys.bind(core, workspace["id"], self.name, key, fingerprint=fingerprint, resource_id=resource_id)
        materializations.notify(core, workspace["id"])
        return self.reread(core, resource_id)

    def change(self, core: Core, resource_id: str, at: str | None = None, **columns: object) -> None:
        """Change a row's columns and wake its followers and its worker.

        :param at: a column that holds when the change was made.
        """
        now = core.clock.now()
        times = {"updated_at": now} if at is None else {"updated_at": now, at: now}
        core.db.update(self.table, resource_id, **times, **columns)
        workspace_id = self.reread(core, resource_id)["workspace_id"]
        core.db.after_commit(lambda: core.notifier.notify(chunks.topic(resource_id)))
        materializations.notify(core, workspace_id)

    def end(self, core: Core, resource_id: str, at: str, **columns: object) -> None:
        """Record the end of a row, its `state` among the columns; nothing changes if it has ended already."""
        if self.reread(core, resource_id)["state"] in self.live:
            self.change(core, resource_id, at=at, **columns)
            # The workspace has no writer any more: a run may be waiting for that.
            core.db.after_commit(lambda: core.notifier.notify("dispatch"))

    def _not_found(self) -> ApiError:
        return ApiError(404, f"workspace {self.short} not found")
