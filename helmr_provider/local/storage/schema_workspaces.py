"""The tables of workspaces and what lives in them, of schedules, of public access tokens and of secrets.

Archives of workspace versions are files of their own, named by their digest (see :mod:`.files`).
"""

from __future__ import annotations

WORKSPACES = """
CREATE TABLE workspaces (
    id TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id),
    sandbox_id TEXT NOT NULL,
    external_id TEXT,
    current_version_id TEXT NOT NULL,
    state TEXT NOT NULL,
    desired_state TEXT NOT NULL,
    dirty_state TEXT NOT NULL,
    metadata TEXT NOT NULL,
    tags TEXT NOT NULL,
    last_activity_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    archived_at INTEGER,
    UNIQUE (environment_id, external_id)
);
CREATE INDEX workspaces_by_creation ON workspaces (environment_id, created_at DESC, id DESC);

CREATE TABLE workspace_versions (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    parent_version_id TEXT,
    kind TEXT NOT NULL,
    content_digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    entry_count INTEGER NOT NULL,
    message TEXT,
    created_at INTEGER NOT NULL
);
CREATE INDEX versions_by_creation ON workspace_versions (workspace_id, created_at DESC, id DESC);

CREATE TABLE materializations (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    base_version_id TEXT NOT NULL,
    worker_instance_id TEXT,
    run_id TEXT,
    state TEXT NOT NULL,
    claim_attempt INTEGER NOT NULL DEFAULT 0,
    fencing_generation INTEGER NOT NULL DEFAULT 1,
    dirty_generation INTEGER NOT NULL DEFAULT 0,
    reservation_expires_at INTEGER,
    last_heartbeat_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX materializations_live ON materializations (workspace_id)
    WHERE state NOT IN ('stopped', 'lost', 'failed');

CREATE TABLE workspace_keys (
    scope_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    response TEXT,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (scope_id, kind, key_hash)
);

CREATE TABLE workspace_execs (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    materialization_id TEXT NOT NULL,
    command TEXT NOT NULL,
    cwd TEXT NOT NULL,
    env TEXT NOT NULL,
    state TEXT NOT NULL,
    detached INTEGER NOT NULL,
    process_id TEXT,
    exit_code INTEGER,
    signal TEXT,
    error TEXT NOT NULL DEFAULT '{}',
    stdin_closed_at INTEGER,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    exited_at INTEGER,
    updated_at INTEGER NOT NULL
);
CREATE INDEX execs_by_creation ON workspace_execs (workspace_id, created_at DESC, id DESC);
CREATE INDEX execs_by_materialization ON workspace_execs (materialization_id);
CREATE INDEX execs_live ON workspace_execs (workspace_id) WHERE state IN ('materializing', 'queued', 'running');

CREATE TABLE workspace_ptys (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    materialization_id TEXT NOT NULL,
    cwd TEXT NOT NULL,
    cols INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    wanted_cols INTEGER NOT NULL,
    wanted_rows INTEGER NOT NULL,
    state TEXT NOT NULL,
    process_id TEXT,
    error TEXT NOT NULL DEFAULT '{}',
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    closed_at INTEGER,
    updated_at INTEGER NOT NULL
);
CREATE INDEX ptys_by_creation ON workspace_ptys (workspace_id, created_at DESC, id DESC);
CREATE INDEX ptys_by_materialization ON workspace_ptys (materialization_id);
CREATE INDEX ptys_live ON workspace_ptys (workspace_id) WHERE state IN ('creating', 'open', 'resizing', 'closing');

CREATE TABLE byte_streams (
    resource_id TEXT NOT NULL,
    stream TEXT NOT NULL,
    cursor INTEGER NOT NULL,
    PRIMARY KEY (resource_id, stream)
) WITHOUT ROWID;

CREATE TABLE byte_chunks (
    id TEXT PRIMARY KEY,
    resource_id TEXT NOT NULL,
    stream TEXT NOT NULL,
    offset_start INTEGER NOT NULL,
    offset_end INTEGER NOT NULL,
    content BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (resource_id, stream, offset_end)
);

CREATE TABLE schedules (
    id TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id),
    type TEXT NOT NULL,
    task_id TEXT NOT NULL,
    deduplication_key TEXT NOT NULL,
    external_id TEXT,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    options TEXT NOT NULL,
    active INTEGER NOT NULL,
    last_error TEXT,
    failures INTEGER NOT NULL DEFAULT 0,
    next_fire_at INTEGER,
    due_at INTEGER,
    last_fire_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (environment_id, type, deduplication_key)
);
CREATE INDEX schedules_due ON schedules (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE public_access_tokens (
    id TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    stream TEXT NOT NULL,
    correlation_id TEXT,
    max_uses INTEGER,
    uses INTEGER NOT NULL DEFAULT 0,
    expires_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE secrets (
    environment_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (environment_id, name)
);
"""
