"""Starting a session: two identities, one order of decisions (contract/behaviour.md section 3.1)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import ApiError, session_terminal
from helmr_provider.local.common.ids import hashed, uuid7
from helmr_provider.local.common.jsontext import fingerprint, jsonb
from helmr_provider.local.definitions.retry_policy import DISABLED, read_policy
from helmr_provider.local.state import runs, sessions, workspaces, writers

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.storage.database import Row


@dataclass(frozen=True)
class CheckedStart:
    """A checked start; times in microseconds, None where the request has no such member."""

    task_id: str
    payload: Any
    external_id: str | None
    queue: str | None
    concurrency_key: str | None
    priority: int
    ttl: str | None
    ttl_us: int | None
    max_duration_seconds: int | None
    retry: dict[str, Any] | None
    metadata: dict[str, Any]
    tags: list[str]
    idempotency_key: str | None
    idempotency_key_us: int
    expires_at: int | None
    workspace_id: str | None
    sdk_version: str | None

    def fingerprint(self) -> str:
        """Hash what two starts of one identity must have in common."""
        return fingerprint(
            [
                self.task_id,
                self.payload,
                self.external_id,
                None if self.expires_at is None else rfc3339(self.expires_at),
                self.queue,
                self.concurrency_key,
                self.priority,
                self.ttl,
                self.max_duration_seconds,
                self.workspace_id,
                self.retry,
            ]
        )


@dataclass(frozen=True)
class Started:
    """What a start found or made."""

    session_id: str
    run_id: str
    is_cached: bool


class Starter:
    """Starts sessions; holds the claims of the starts that are under way."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._claims: set[tuple[str, str, str]] = set()

    async def start(self, environment_id: str, request: CheckedStart) -> Started:
        """Start a session, or find the one that this start's identity names.

        :raises ApiError: 202 while another start holds the same idempotency key, 400, 409.
        """
        if request.idempotency_key is None:
            known = self._by_external_id(environment_id, request)
            if known is not None:
                return known
            self._check(environment_id, request)
            await asyncio.sleep(self._core.settings.start_latency)
            with self._core.db.transaction():
                return self._by_external_id(environment_id, request) or self._create(environment_id, request)
        key_hash = hashed(request.idempotency_key)
        bound = self._by_key(environment_id, request, key_hash)
        if bound is not None:
            return bound
        self._check(environment_id, request)
        claim = (environment_id, request.task_id, key_hash)
        if claim in self._claims:
            raise ApiError(202, "session_start_pending", "idempotency_pending", headers={"retry-after": "1"})
        self._claims.add(claim)
        try:
            await asyncio.sleep(self._core.settings.start_latency)
            with self._core.db.transaction():
                started = self._by_external_id(environment_id, request) or self._create(environment_id, request)
                self._bind(environment_id, request, key_hash, started)
        finally:
            self._claims.discard(claim)
        return started

    def start_new(self, environment_id: str, request: CheckedStart) -> Started:
        """Start a session that cannot exist yet, without a claim.

        :raises ApiError: 400, 409.
        """
        self._check(environment_id, request)
        with self._core.db.transaction():
            return self._create(environment_id, request)

    def _by_key(self, environment_id: str, request: CheckedStart, key_hash: str) -> Started | None:
        row = self._core.db.one(
            "SELECT * FROM start_keys WHERE environment_id = ? AND task_id = ? AND key_hash = ? AND expires_at > ?",
            environment_id,
            request.task_id,
            key_hash,
            self._core.clock.now(),
        )
        if row is None:
            return None
        if row["fingerprint"] != request.fingerprint():
            raise ApiError(
                409,
                "idempotency_key was already used with different session start parameters",
                "idempotency_fingerprint_mismatch",
            )
        return Started(row["session_id"], row["run_id"], is_cached=True)

    def _by_external_id(self, environment_id: str, request: CheckedStart) -> Started | None:
        if request.external_id is None:
            return None
        session = sessions.by_external_id(self._core, environment_id, request.external_id)
        if session is None:
            return None
        if session["status"] != "open" or sessions.is_past_expiry(self._core, session):
            raise session_terminal()
        if session["fingerprint"] != request.fingerprint():
            raise ApiError(409, "session start fingerprint mismatch", "session_fingerprint_mismatch")
        return Started(session["id"], session["current_run_id"], is_cached=True)

    def _check(self, environment_id: str, request: CheckedStart) -> None:
        deployment = self._core.deployment
        if request.task_id not in deployment.tasks:
            raise ApiError(409, "task_not_deployed", "task_not_deployed")
        if request.queue is not None and request.queue not in deployment.queues:
            raise ApiError(400, f'queue "{request.queue}" is not declared in the selected deployment')
        sandbox_id = deployment.tasks[request.task_id].sandbox
        if request.workspace_id is not None and not workspaces.fits(
            self._core, environment_id, request.workspace_id, sandbox_id
        ):
            text = "workspace sandbox is incompatible with this task"
            raise ApiError(409, text, "workspace_sandbox_incompatible")
        if request.workspace_id is not None and writers.is_stopping(
            self._core, workspaces.find(self._core, environment_id, request.workspace_id)
        ):
            if self._core.settings.quirks:
                raise ApiError(500, "start task")
            text = "workspace has an active materialization that is not runnable"
            raise ApiError(409, text, "workspace_materialization_not_runnable")

    def _bind(self, environment_id: str, request: CheckedStart, key_hash: str, started: Started) -> None:
        self._core.db.execute(
            "INSERT OR REPLACE INTO start_keys VALUES (?, ?, ?, ?, ?, ?, ?)",
            environment_id,
            request.task_id,
            key_hash,
            request.fingerprint(),
            started.session_id,
            started.run_id,
            self._core.clock.now() + request.idempotency_key_us,
        )

    def _create(self, environment_id: str, request: CheckedStart) -> Started:
        core = self._core
        definition = core.deployment.tasks[request.task_id]
        now = core.clock.now()
        session_id, run_id = uuid7(now), uuid7(now)
        retry = request.retry
        if retry is None:
            retry = DISABLED if definition.retry is None else read_policy(dict(definition.retry))
        limit = request.max_duration_seconds or definition.max_duration
        options = {
            "queue": request.queue or definition.queues[0].name,
            "concurrency_key": request.concurrency_key,
            "retry": retry,
            "priority": request.priority,
            "ttl": request.ttl,
            "ttl_us": request.ttl_us,
            "max_duration_us": int(limit * 1_000_000),
            "sdk_version": request.sdk_version or core.deployment.build_version,
        }
        core.db.insert(
            "sessions",
            id=session_id,
            environment_id=environment_id,
            task_id=request.task_id,
            external_id=request.external_id,
            status="open",
            current_run_id=run_id,
            workspace_id=request.workspace_id
            or workspaces.insert(core, environment_id, workspaces.NewWorkspace(definition.sandbox)),
            payload=jsonb(request.payload),
            run_options=jsonb(options),
            metadata=jsonb(request.metadata),
            tags=jsonb(request.tags),
            terminal_reason="{}",
            fingerprint=request.fingerprint(),
            expires_at=request.expires_at,
            created_at=now,
            updated_at=now,
        )
        runs.create(
            core,
            session_id=session_id,
            run_id=run_id,
            environment_id=environment_id,
            task_id=request.task_id,
            turn_index=0,
            options=options,
            payload=jsonb(request.payload),
            metadata=jsonb(request.metadata),
            tags=request.tags,
            now=now,
        )
        return Started(session_id, run_id, is_cached=False)


def answer(core: Core, environment_id: str, started: Started, *, timed_out: bool = False) -> dict[str, Any]:
    """Return a start as the API answers it."""
    session: Row = sessions.find(core, environment_id, started.session_id)
    body: dict[str, Any] = {
        "session": sessions.rendered(core, session),
        "run": runs.rendered(core, runs.reread(core, started.run_id)),
    }
    if started.is_cached:
        body["is_cached"] = True
    if timed_out:
        body["timed_out"] = True
    return body
