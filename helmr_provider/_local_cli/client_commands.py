"""The commands that speak to a running control plane, with the client."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import uuid
from typing import TYPE_CHECKING, Any

from helmr_provider._local_cli.keys import default_key
from helmr_provider._local_cli.output import ago, print_json, print_members, print_table, until
from helmr_provider.client import HelmrClient
from helmr_provider.client.models.logs import LogDecoder

if TYPE_CHECKING:
    import argparse

    from helmr_provider.client.models.events import EventRecord
    from helmr_provider.client.models.runs import RunSnapshot


def start(options: argparse.Namespace) -> int:
    """Start a session of a task, and wait for its run if asked for."""
    payload: Any = {} if options.payload is None else _json(options.payload, "--payload")
    with _client(options) as client:
        started = client.sessions.start(options.task, payload, external_id=options.external_id)
        if not options.wait:
            if options.json:
                print_json(started.raw)
            else:
                sys.stderr.write(f"{'Found' if started.is_cached else 'Started'} session {started.session.id}\n")
                sys.stdout.write(f"{started.run.id}\n")
            return 0
        run = client.runs.wait(started.run)
    if options.json:
        print_json(run.raw)
    else:
        sys.stderr.write(f"Run {run.id} {run.status}\n")
        if run.has_output:
            print_json(run.output)
    return 0 if run.status == "succeeded" else 1


def list_sessions(options: argparse.Namespace) -> int:
    """List sessions."""
    with _client(options) as client:
        found = client.sessions.list(status=options.status, task_id=options.task, limit=options.limit)
    if options.json:
        print_json([session.raw for session in found])
        return 0
    rows = (
        (
            session.task_id,
            session.external_id or "-",
            session.status,
            session.activity,
            ago(session.updated_at),
            session.id,
        )
        for session in found
    )
    print_table(("TASK", "EXTERNAL ID", "STATUS", "ACTIVITY", "UPDATED", "ID"), rows, "There are no sessions.")
    return 0


def show_session(options: argparse.Namespace) -> int:
    """Show a session and its runs."""
    with _client(options) as client:
        if _is_id(options.session):
            handle = client.sessions.open(options.session)
        else:
            handle = client.sessions.open(external_id=options.session)
        session, runs = handle.retrieve(), handle.runs()
    if options.json:
        print_json({**session.raw, "runs": [run.raw for run in runs]})
        return 0
    print_members(
        {
            "Task": session.task_id,
            "Session": session.id,
            "External id": session.external_id or "-",
            "Status": session.status,
            "Activity": session.activity,
            "Workspace": session.workspace_id or "-",
            "Tags": ", ".join(session.tags) or "-",
            "Metadata": json.dumps(session.metadata, ensure_ascii=False),
            "Created": f"{session.created_at.isoformat()} ({ago(session.created_at)})",
        }
    )
    sys.stdout.write("\n")
    rows = ((str(run.turn_index), run.status, ago(run.created_at), run.run_id) for run in runs)
    print_table(("TURN", "STATUS", "CREATED", "RUN"), rows, "There are no runs.")
    return 0


def list_runs(options: argparse.Namespace) -> int:
    """List runs."""
    with _client(options) as client:
        found = client.runs.list(status=options.status or "all", limit=options.limit, session_id=options.session)
    if options.json:
        print_json([run.raw for run in found])
        return 0
    rows = ((run.task_id, run.status, str(run.attempt_number or "-"), ago(run.created_at), run.id) for run in found)
    print_table(("TASK", "STATUS", "ATTEMPT", "CREATED", "ID"), rows, "There are no runs.")
    return 0


def show_run(options: argparse.Namespace) -> int:
    """Show a run."""
    with _client(options) as client:
        run = client.runs.retrieve(options.run_id)
    if options.json:
        print_json(run.raw)
    else:
        print_members(_run_members(run))
    return 0


def run_logs(options: argparse.Namespace) -> int:
    """Print the output of a run: stdout to stdout, stderr to stderr."""
    with _client(options) as client:
        if not options.follow:
            snapshot = client.runs.logs.retrieve(options.run_id)
            if options.json:
                print_json(snapshot.raw)
            else:
                sys.stdout.write(snapshot.stdout)
                sys.stderr.write(snapshot.stderr)
            return 0
        decoder = LogDecoder()
        with contextlib.closing(client.runs.logs.follow(options.run_id)) as chunks:
            for chunk in chunks:
                if options.json:
                    print_json(chunk.raw)
                else:
                    (sys.stderr if chunk.stream == "stderr" else sys.stdout).write(decoder.decode(chunk))
                sys.stdout.flush()
    return 0


def run_events(options: argparse.Namespace) -> int:
    """Print the events of a run."""
    with _client(options) as client:
        events = client.runs.events
        records = events.follow_records(options.run_id) if options.follow else events.records(options.run_id)
        with contextlib.closing(records):
            for record in records:
                if options.json:
                    print_json(record.raw)
                else:
                    sys.stdout.write(_event_line(record))
                sys.stdout.flush()
    return 0


def list_tokens(options: argparse.Namespace) -> int:
    """List tokens."""
    with _client(options) as client:
        found = client.tokens.list(status=options.status, limit=options.limit)
    if options.json:
        print_json([token.raw for token in found])
        return 0
    rows = (
        (
            _subject(token.metadata),
            token.status,
            ", ".join(token.tags) or "-",
            until(token.timeout_at) if token.status == "pending" and token.timeout_at is not None else "-",
            token.id,
        )
        for token in found
    )
    print_table(("QUESTION", "STATUS", "TAGS", "EXPIRES", "ID"), rows, "There are no tokens.")
    return 0


def complete_token(options: argparse.Namespace) -> int:
    """Complete a token."""
    data = _json(options.data, "--data")
    with _client(options) as client:
        completion = client.tokens.complete(options.token, data)
    if options.json:
        print_json(completion.raw)
    else:
        sys.stdout.write(f"Token {options.token}: {completion.status}\n")
    return 0


def _client(options: argparse.Namespace) -> HelmrClient:
    url: str = options.url or os.environ.get("HELMR_API_URL") or f"http://127.0.0.1:{options.port}"
    # The key of the environment belongs to the URL of the environment.
    from_environment = None if options.url else os.environ.get("HELMR_API_KEY")
    if options.url is None and not os.environ.get("HELMR_API_URL"):
        from_environment = None
    key = options.api_key or from_environment or default_key(url.rstrip("/"))
    log = logging.getLogger("helmr_provider.client")
    level = log.level
    # Plain http to this machine is what the command is for.
    log.setLevel(logging.ERROR)
    try:
        return HelmrClient(url=url, api_key=key)
    finally:
        log.setLevel(level)


def _run_members(run: RunSnapshot) -> dict[str, str]:
    members = {
        "Task": run.task_id,
        "Run": run.id,
        "Session": run.session_id,
        "Status": run.status,
        "Attempt": str(run.attempt_number or "-"),
        "Exit code": "-" if run.exit_code is None else str(run.exit_code),
        "Metadata": json.dumps(run.metadata, ensure_ascii=False),
        "Created": f"{run.created_at.isoformat()} ({ago(run.created_at)})",
    }
    if run.has_output:
        members["Output"] = json.dumps(run.output, ensure_ascii=False)
    return members


def _event_line(record: EventRecord) -> str:
    attributes = "" if not record.attributes else json.dumps(record.attributes, ensure_ascii=False)
    return f"{record.at.isoformat(timespec='milliseconds')}  {record.kind:24}  {attributes}".rstrip() + "\n"


def _subject(metadata: object) -> str:
    """Return what a token asks, in one line; its creator wrote it."""
    asked = metadata.get("approval") if isinstance(metadata, dict) else None
    subject = asked.get("subject") if isinstance(asked, dict) else None
    return " ".join(subject.split()) if isinstance(subject, str) and subject.split() else "-"


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{option} is not JSON: {error}") from None
