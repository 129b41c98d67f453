"""The tables, one script per schema version; a script is never edited once released, only followed by another.

Times are microseconds since the epoch. Columns that hold JSON end in no suffix: their text is what the API answers.
"""

from __future__ import annotations

from helmr_provider.local.storage.schema_workspaces import WORKSPACES

_V1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);

CREATE TABLE environments (id TEXT PRIMARY KEY, project_id TEXT NOT NULL, name TEXT NOT NULL UNIQUE);

CREATE TABLE api_keys (
    hash TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id),
    scopes TEXT NOT NULL
);

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id),
    task_id TEXT NOT NULL,
    external_id TEXT,
    status TEXT NOT NULL,
    current_run_id TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    payload TEXT NOT NULL,
    run_options TEXT NOT NULL,
    metadata TEXT NOT NULL,
    tags TEXT NOT NULL,
    error TEXT,
    terminal_reason TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    expires_at INTEGER,
    expired_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (environment_id, external_id)
);
CREATE INDEX sessions_by_update ON sessions (environment_id, updated_at DESC, id DESC);
CREATE INDEX sessions_by_expiry ON sessions (expires_at) WHERE status = 'open' AND expires_at IS NOT NULL;

CREATE TABLE start_keys (
    environment_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    run_id TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (environment_id, task_id, key_hash)
);

CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    link_id TEXT NOT NULL,
    turn_index INTEGER NOT NULL,
    previous_run_id TEXT,
    cause_record_id TEXT,
    task_id TEXT NOT NULL,
    status TEXT NOT NULL,
    execution TEXT NOT NULL,
    payload TEXT NOT NULL,
    metadata TEXT NOT NULL,
    retry TEXT NOT NULL,
    priority INTEGER NOT NULL,
    ttl TEXT,
    expires_at INTEGER,
    max_duration_us INTEGER NOT NULL,
    active_us INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER,
    attempt_number INTEGER NOT NULL,
    attempt_id TEXT NOT NULL,
    lease_id TEXT,
    lease_span TEXT,
    lease_at INTEGER,
    wait_step INTEGER,
    wait_kind TEXT,
    wait_ref TEXT,
    wait_correlation TEXT,
    wait_due INTEGER,
    exit_code INTEGER,
    output TEXT,
    sdk_version TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    span_id TEXT NOT NULL,
    last_event INTEGER NOT NULL DEFAULT 0,
    last_log INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    ended_at INTEGER,
    UNIQUE (session_id, turn_index)
);
CREATE INDEX runs_by_creation ON runs (environment_id, created_at DESC, id DESC);
CREATE INDEX runs_live ON runs (execution) WHERE execution <> 'finished';
CREATE INDEX runs_by_status ON runs (environment_id, status);
CREATE INDEX runs_waiting ON runs (wait_kind, wait_ref) WHERE wait_kind IS NOT NULL;

CREATE TABLE run_steps (
    run_id TEXT NOT NULL REFERENCES runs (id),
    attempt_number INTEGER NOT NULL,
    step INTEGER NOT NULL,
    kind TEXT NOT NULL,
    result TEXT NOT NULL,
    PRIMARY KEY (run_id, attempt_number, step)
) WITHOUT ROWID;

CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs (id),
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (run_id, sequence)
) WITHOUT ROWID;

CREATE TABLE log_chunks (
    run_id TEXT NOT NULL REFERENCES runs (id),
    sequence INTEGER NOT NULL,
    stream TEXT NOT NULL,
    content BLOB NOT NULL,
    attempt_number INTEGER NOT NULL,
    lease_id TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (run_id, sequence)
);

CREATE TABLE operations (
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (id),
    status TEXT NOT NULL,
    reason TEXT,
    idempotency_key TEXT,
    fingerprint TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    applied_at INTEGER,
    UNIQUE (run_id, idempotency_key)
);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL,
    status TEXT NOT NULL,
    data TEXT,
    tags TEXT NOT NULL,
    metadata TEXT NOT NULL,
    timeout_at INTEGER NOT NULL,
    callback_hash TEXT NOT NULL,
    public_hash TEXT NOT NULL UNIQUE,
    idempotency_key TEXT,
    fingerprint TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (environment_id, idempotency_key)
);
CREATE INDEX tokens_by_creation ON tokens (environment_id, created_at, id);
CREATE INDEX tokens_by_timeout ON tokens (timeout_at) WHERE status = 'pending';

CREATE TABLE streams (
    id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    name TEXT NOT NULL,
    direction TEXT NOT NULL,
    sequence INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    UNIQUE (session_id, direction, name)
);

CREATE TABLE stream_records (
    id TEXT PRIMARY KEY,
    stream_id TEXT NOT NULL REFERENCES streams (id),
    session_id TEXT NOT NULL,
    direction TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    data TEXT NOT NULL,
    correlation_id TEXT,
    content_type TEXT NOT NULL,
    idempotency_key TEXT,
    fingerprint TEXT NOT NULL,
    consumed_by TEXT,
    turn_run_id TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (stream_id, sequence),
    UNIQUE (stream_id, idempotency_key)
);
CREATE INDEX pending_input ON stream_records (session_id)
    WHERE direction = 'input' AND consumed_by IS NULL AND turn_run_id IS NULL;
"""

_QUEUES = """
ALTER TABLE runs ADD COLUMN queue TEXT NOT NULL DEFAULT 'default';
ALTER TABLE runs ADD COLUMN concurrency_key TEXT;
"""

_COMPLETIONS = """
ALTER TABLE tokens ADD COLUMN data_fingerprint TEXT;
"""

_LEASES = """
CREATE INDEX runs_queued ON runs (environment_id, queue, concurrency_key, priority DESC, created_at, id)
    WHERE execution = 'queued';
CREATE INDEX runs_of_session ON runs (session_id, turn_index);
"""

_PHASES = """
CREATE TABLE run_phases (
    run_id TEXT NOT NULL REFERENCES runs (id),
    status TEXT NOT NULL,
    attempt_number INTEGER NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX phases_of_run ON run_phases (run_id, at);
"""

_PARKED = """
ALTER TABLE runs ADD COLUMN parked_version_id TEXT;
ALTER TABLE runs ADD COLUMN wait_after INTEGER;
"""

_HELD = """
CREATE INDEX runs_held ON runs (environment_id, queue, concurrency_key)
    WHERE execution IN ('executing', 'pending_cancel');
"""

SCRIPTS = (_V1, WORKSPACES, _QUEUES, _COMPLETIONS, _PARKED, _LEASES, _PHASES, _HELD)
