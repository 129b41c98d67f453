"""The command line of `helmr-local`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from helmr_provider import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    _Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - has no public name

DEFAULT_PORT = 8790
DEFAULT_ENVIRONMENT = "production"


_EXAMPLES = """\
typical use:
  helmr-local serve                   # in one terminal
  eval "$(helmr-local env)"           # in another one, for clients and Airflow
  helmr-local start echo --payload '{"text": "hello"}' --wait
  helmr-local runs list --status waiting
  helmr-local tokens complete TOKEN --data '{"approved": true}'
"""
_TASK_FILE = "Python file that defines the tasks (default: the example tasks)"
_RUN_STATUSES = ("queued", "running", "waiting", "succeeded", "failed", "cancelled", "expired", "live", "all")
_SESSION_STATUSES = ("open", "closed", "cancelled", "expired")
_TOKEN_STATUSES = ("pending", "completed", "expired", "cancelled")


def parser() -> argparse.ArgumentParser:
    """Return the parser; each command sets `run` to the function that runs it."""
    top = argparse.ArgumentParser(
        prog="helmr-local",
        description="The Helmr API on this machine: serve it, and use a control plane that runs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"helmr-local {__version__}")
    commands = top.add_subparsers(required=True, metavar="command", dest="command", title="commands")
    _serve(_command(commands, "serve", "serve the API until interrupted"))
    env = _command(commands, "env", "print shell variables for a running control plane, with a new API key")
    env.add_argument("--port", type=int, default=DEFAULT_PORT, help="its port (default: %(default)s)")
    env.add_argument(
        "--environment",
        metavar="NAME",
        default=DEFAULT_ENVIRONMENT,
        help="environment of the key (default: %(default)s)",
    )
    env.set_defaults(run=_lazily("keys", "env"))
    tasks = _command(commands, "tasks", "list the tasks of a file")
    tasks.add_argument("--tasks", type=Path, metavar="FILE", help=_TASK_FILE)
    tasks.add_argument("--json", action="store_true", help="print JSON")
    tasks.set_defaults(run=_lazily("serving", "tasks"))
    start = _command(commands, "start", "start a session of a task, and print the id of its run")
    start.add_argument("task", help="task id")
    start.add_argument("--payload", metavar="JSON", help="the payload (default: {})")
    start.add_argument("--external-id", metavar="TEXT", help="external id of the session; a used one finds its session")
    start.add_argument(
        "--wait", action="store_true", help="wait for the run and print its output; fail unless the run succeeds"
    )
    _client(start, "start")
    _sessions(commands)
    _runs(commands)
    _tokens(commands)
    completion = _command(commands, "completion", "print a script that completes words in a shell")
    completion.add_argument("shell", choices=("bash", "zsh"), help='use it as: eval "$(helmr-local completion bash)"')
    completion.set_defaults(run=_lazily("completion", "completion"))
    return top


def _command(commands: _Commands, name: str, text: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")


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
    serve.add_argument("--db", type=Path, metavar="FILE", help="database file (default: in memory)")
    serve.add_argument("--tasks", type=Path, metavar="FILE", help=_TASK_FILE)
    serve.add_argument(
        "--api-key",
        metavar="KEY",
        help="the API key with all scopes, hlmr_sk_… (default: HELMR_LOCAL_API_KEY, else one that the database keeps)",
    )
    serve.add_argument(
        "--certfile", type=Path, metavar="FILE", help="certificate chain in PEM; serves https (with --keyfile)"
    )
    serve.add_argument("--keyfile", type=Path, metavar="FILE", help="private key of the certificate in PEM")
    serve.add_argument(
        "--quirks",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="answer 500 where the real control plane does so by mistake (default), or refuse such requests properly",
    )
    serve.add_argument(
        "--event-slots",
        type=int,
        metavar="NUMBER",
        help="imitate scarce event streams: with more silent followers than this, nobody receives events any more; a"
        " small real control plane has 20 (default: no limit)",
    )
    serve.add_argument("--no-exec", action="store_true", help="run no commands in workspaces")
    serve.add_argument(
        "--allow-remote", action="store_true", help="allow an address that others can reach: they can run the tasks"
    )
    serve.set_defaults(run=_lazily("serving", "serve"))


def _client(command: argparse.ArgumentParser, function: str) -> None:
    command.add_argument(
        "--url", metavar="URL", help="base URL (default: HELMR_API_URL, else the control plane at --port)"
    )
    command.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="port on this machine, without a URL (default: %(default)s)"
    )
    command.add_argument(
        "--api-key",
        metavar="KEY",
        help="API key (default: HELMR_API_KEY, else the key of the control plane on this machine)",
    )
    command.add_argument("--json", action="store_true", help="print JSON as the API returns it")
    command.set_defaults(run=_lazily("client_commands", function))


def _group(commands: _Commands, name: str, text: str) -> _Commands:
    group = _command(commands, name, text)
    return group.add_subparsers(required=True, metavar="command", dest="subcommand", title="commands")


def _list_options(command: argparse.ArgumentParser, statuses: Sequence[str]) -> None:
    command.add_argument(
        "--status",
        choices=statuses,
        metavar="STATUS",
        help=f"{', '.join(statuses[:-1])} or {statuses[-1]} (default: all)",
    )
    command.add_argument(
        "--limit", type=int, default=20, metavar="NUMBER", help="how many to list (default: %(default)s)"
    )


def _sessions(commands: _Commands) -> None:
    group = _group(commands, "sessions", "list and show sessions")
    listed = _command(group, "list", "list sessions, last updated first")
    _list_options(listed, _SESSION_STATUSES)
    listed.add_argument("--task", help="sessions of this task only")
    _client(listed, "list_sessions")
    shown = _command(group, "show", "show a session and its runs")
    shown.add_argument("session", help="session id or external id")
    _client(shown, "show_session")


def _runs(commands: _Commands) -> None:
    group = _group(commands, "runs", "list and show runs, their logs and their events")
    listed = _command(group, "list", "list runs, newest first")
    _list_options(listed, _RUN_STATUSES)
    listed.add_argument("--session", help="runs of the session with this id only")
    _client(listed, "list_runs")
    shown = _command(group, "show", "show a run")
    shown.add_argument("run_id", metavar="run", help="run id")
    _client(shown, "show_run")
    for name, what in (("logs", "the output"), ("events", "the events")):
        command = _command(group, name, f"print {what} of a run")
        command.add_argument("run_id", metavar="run", help="run id")
        command.add_argument("--follow", action="store_true", help="follow the run to its end")
        _client(command, f"run_{name}")


def _tokens(commands: _Commands) -> None:
    group = _group(commands, "tokens", "list and complete tokens")
    listed = _command(group, "list", "list tokens, oldest first")
    _list_options(listed, _TOKEN_STATUSES)
    _client(listed, "list_tokens")
    complete = _command(group, "complete", "complete a token")
    complete.add_argument("token", help="token id")
    complete.add_argument("--data", metavar="JSON", default="null", help="the answer (default: %(default)s)")
    _client(complete, "complete_token")
