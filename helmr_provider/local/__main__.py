"""The command `helmr-local`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from helmr_provider.local._core import DEFAULT_ENVIRONMENT
from helmr_provider.local._server import Server
from helmr_provider.local.common.open_files import ENOUGH, WANTED, raise_limit
from helmr_provider.local.common.settings import Settings
from helmr_provider.local.example_tasks import EXAMPLE_TASKS
from helmr_provider.local.execution.tasks import load_tasks
from helmr_provider.local.storage.database import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANSWER_SECONDS = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    :param arguments: the command line without the command's name; that of the process if absent.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "env":
            return _env(options.port, options.environment)
        if options.command == "tasks":
            return _tasks(options.tasks)
        server = Server(
            EXAMPLE_TASKS if options.tasks is None else load_tasks(options.tasks),
            db=options.db,
            host=options.host,
            port=options.port,
            api_key=options.api_key or os.environ.get("HELMR_LOCAL_API_KEY") or None,
            allow_remote=options.allow_remote,
            settings=Settings(quirks=options.quirks, execute=not options.no_exec, event_slots=options.event_slots),
        )
        return asyncio.run(_serve(server))
    except (OSError, ValueError, DatabaseError) as error:
        sys.stderr.write(f"helmr-local: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="helmr-local", description="The Helmr API on this machine.")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    serve = commands.add_parser("serve", help="serve the API until interrupted")
    serve.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    serve.add_argument("--port", type=int, default=0, help="port, 0 for a free one (default: %(default)s)")
    serve.add_argument("--db", type=Path, help="database file (default: in memory)")
    serve.add_argument("--tasks", type=Path, help="Python file that defines the tasks (default: the example tasks)")
    serve.add_argument(
        "--api-key",
        help="the API key with all scopes, hlmr_sk_… (default: HELMR_LOCAL_API_KEY, else one that the database keeps)",
    )
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
        help="how many followers of events can be silent at once before nothing comes any more, 20 as on a small real"
        " control plane (default: no limit)",
    )
    serve.add_argument("--no-exec", action="store_true", help="run no commands in workspaces")
    serve.add_argument(
        "--allow-remote", action="store_true", help="allow an address that others can reach: they can run the tasks"
    )
    env = commands.add_parser("env", help="print the variables for a control plane that runs here, with a new key")
    env.add_argument("--port", type=int, required=True, help="the port at which it serves")
    env.add_argument("--environment", default=DEFAULT_ENVIRONMENT, help="whose key (default: %(default)s)")
    tasks = commands.add_parser("tasks", help="list the tasks of a file")
    tasks.add_argument("--tasks", type=Path, help="Python file that defines the tasks (default: the example tasks)")
    return parser


def _env(port: int, environment: str) -> int:
    url = f"http://127.0.0.1:{port}"
    body = json.dumps({"environment": environment}).encode()
    request = urllib.request.Request(f"{url}/_local/keys", body, {"Content-Type": "application/json"})  # noqa: S310 - http
    # A proxy of this machine's settings would ask for its own loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_ANSWER_SECONDS) as answer:
        _print_env(url, json.load(answer)["key"])
    return 0


def _tasks(path: Path | None) -> int:
    for definition in EXAMPLE_TASKS if path is None else load_tasks(path):
        summary = (definition.function.__doc__ or "").strip().partition("\n")[0]
        sys.stdout.write(f"{definition.id:24}{summary}".rstrip() + "\n")
    return 0


def _print_env(url: str, api_key: str) -> None:
    sys.stdout.write(f"export HELMR_API_URL={url}\nexport HELMR_API_KEY={api_key}\n")
    sys.stdout.flush()


async def _serve(server: Server) -> int:
    if (limit := raise_limit()) < ENOUGH:
        sys.stderr.write(
            f"helmr-local: the hard limit on open files (ulimit -Hn) is {limit}. Each follower and connection needs "
            f"one; raise it to {WANTED} for a thousand of them.\n"
        )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await server.start()
    _print_env(server.url, server.api_key)
    await stopped.wait()
    await server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
