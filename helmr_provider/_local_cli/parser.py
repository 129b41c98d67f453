"""The command line of `helmr-local`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from helmr_provider import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_PORT = 8790
DEFAULT_ENVIRONMENT = "production"


def parser() -> argparse.ArgumentParser:
    """Return the parser; each command sets `run` to the function that runs it."""
    top = argparse.ArgumentParser(prog="helmr-local", description="The Helmr API on this machine.")
    top.add_argument("--version", action="version", version=f"helmr-local {__version__}")
    commands = top.add_subparsers(required=True, metavar="command", dest="command")
    _serve(commands.add_parser("serve", help="serve the API until interrupted"))
    env = commands.add_parser("env", help="print shell variables for a running control plane, with a new API key")
    env.add_argument("--port", type=int, default=DEFAULT_PORT, help="its port (default: %(default)s)")
    env.add_argument("--environment", default=DEFAULT_ENVIRONMENT, help="environment of the key (default: %(default)s)")
    env.set_defaults(run=_lazily("keys", "env"))
    tasks = commands.add_parser("tasks", help="list the tasks of a file")
    tasks.add_argument("--tasks", type=Path, help="Python file that defines the tasks (default: the example tasks)")
    tasks.set_defaults(run=_lazily("serving", "tasks"))
    start = commands.add_parser("start", help="start a session of a task")
    start.add_argument("task", help="task id")
    start.add_argument("--payload", metavar="JSON", help="the payload (default: {})")
    start.add_argument("--external-id", help="external id of the session")
    start.add_argument("--wait", action="store_true", help="wait for the run; the exit status is 1 unless it succeeds")
    _client(start, "start")
    _sessions(commands)
    _runs(commands)
    _tokens(commands)
    return top


def _lazily(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    """Return a function that imports the module of a command only when the command runs."""

    def run(options: argparse.Namespace) -> int:
        from importlib import import_module

        status: int = getattr(import_module(f"helmr_provider._local_cli.{module}"), function)(options)
        return status

    return run


def _serve(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    serve.add_argument("--port", type=int, default=DEFAULT_PORT, help="port, 0 for a free one (default: %(default)s)")
    serve.add_argument("--db", type=Path, help="database file (default: in memory)")
    serve.add_argument("--tasks", type=Path, help="Python file that defines the tasks (default: the example tasks)")
    serve.add_argument(
        "--api-key",
        help="the API key with all scopes, hlmr_sk_… (default: HELMR_LOCAL_API_KEY, else one that the database keeps)",
    )
    serve.add_argument("--certfile", type=Path, help="certificate chain in PEM; serves https (with --keyfile)")
    serve.add_argument("--keyfile", type=Path, help="private key of the certificate in PEM")
    serve.add_argument(
        "--quirks",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fail with 500 where the real control plane does instead of refusing (default: %(default)s)",
    )
    serve.add_argument(
        "--event-slots",
        type=int,
        metavar="NUMBER",
        help="how many followers of events can be silent before nothing is published any more, 20 as on a small real"
        " control plane (default: no limit)",
    )
    serve.add_argument("--no-exec", action="store_true", help="run no commands in workspaces")
    serve.add_argument(
        "--allow-remote", action="store_true", help="allow an address that others can reach: they can run the tasks"
    )
    serve.set_defaults(run=_lazily("serving", "serve"))


def _client(command: argparse.ArgumentParser, function: str) -> None:
    command.add_argument("--url", help="base URL (default: HELMR_API_URL, else the control plane at --port)")
    command.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port on this machine, without a URL (default: %(default)s)"
    )
    command.add_argument(
        "--api-key", help="API key (default: HELMR_API_KEY, else the key of the control plane on this machine)"
    )
    command.add_argument("--json", action="store_true", help="print JSON as the API returns it")
    command.set_defaults(run=_lazily("client_commands", function))


def _group(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    group = commands.add_parser(name, help=text)
    return group.add_subparsers(required=True, metavar="command", dest="subcommand")


def _list_options(command: argparse.ArgumentParser, statuses: str) -> None:
    command.add_argument("--status", help=statuses)
    command.add_argument("--limit", type=int, default=20, help="how many to list (default: %(default)s)")


def _sessions(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = _group(commands, "sessions", "list and show sessions")
    listed = group.add_parser("list", help="list sessions, last updated first")
    _list_options(listed, "open, closed, cancelled or expired (default: all)")
    listed.add_argument("--task", help="sessions of this task only")
    _client(listed, "list_sessions")
    shown = group.add_parser("show", help="show a session and its runs")
    shown.add_argument("session", help="session id or external id")
    _client(shown, "show_session")


def _runs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = _group(commands, "runs", "list and show runs, their logs and their events")
    listed = group.add_parser("list", help="list runs, newest first")
    _list_options(listed, "a run status, live or all (default: all)")
    listed.add_argument("--session", help="runs of the session with this id only")
    _client(listed, "list_runs")
    shown = group.add_parser("show", help="show a run")
    shown.add_argument("run_id", metavar="run", help="run id")
    _client(shown, "show_run")
    for name, what in (("logs", "the output"), ("events", "the events")):
        command = group.add_parser(name, help=f"print {what} of a run")
        command.add_argument("run_id", metavar="run", help="run id")
        command.add_argument("--follow", action="store_true", help="follow the run to its end")
        _client(command, f"run_{name}")


def _tokens(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    group = _group(commands, "tokens", "list and complete tokens")
    listed = group.add_parser("list", help="list tokens, oldest first")
    _list_options(listed, "pending, completed, expired or cancelled (default: all)")
    _client(listed, "list_tokens")
    complete = group.add_parser("complete", help="complete a token")
    complete.add_argument("token", help="token id")
    complete.add_argument("--data", metavar="JSON", default="null", help="the answer (default: %(default)s)")
    _client(complete, "complete_token")
