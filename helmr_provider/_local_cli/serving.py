"""The commands that run the local control plane itself: `serve` and `tasks`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING

from helmr_provider._local_cli.output import print_json
from helmr_provider._local_cli.parser import DEFAULT_PORT
from helmr_provider._local_cli.variables import variables
from helmr_provider.local import EXAMPLE_TASKS, Settings
from helmr_provider.local._server import Server
from helmr_provider.local.common.open_files import ENOUGH, WANTED, raise_limit
from helmr_provider.local.execution.tasks import load_tasks

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from helmr_provider.local import TaskDefinition


def serve(options: argparse.Namespace) -> int:
    """Serve the API until interrupted."""
    if (options.certfile is None) != (options.keyfile is None):
        raise ValueError("--certfile and --keyfile belong together")
    server = Server(
        _tasks(options.tasks),
        db=options.db,
        host=options.host,
        port=options.port,
        api_key=options.api_key or os.environ.get("HELMR_LOCAL_API_KEY") or None,
        allow_remote=options.allow_remote,
        settings=Settings(quirks=options.quirks, execute=not options.no_exec, event_slots=options.event_slots),
        certificate=None if options.certfile is None else (options.certfile, options.keyfile),
    )
    try:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            serving = loop.create_task(_serve(server))
            while not serving.done():
                # asyncio raises it out of the loop as well as out of the asyncio task, which can be a part of a run.
                with contextlib.suppress(SystemExit):
                    loop.run_until_complete(serving)
            return serving.result()
    except OSError as error:
        if error.errno == errno.EADDRINUSE and options.port == DEFAULT_PORT:
            raise OSError(
                f"port {DEFAULT_PORT} is in use, often by another helmr-local; choose one with --port"
            ) from None
        raise


def tasks(options: argparse.Namespace) -> int:
    """List the tasks of a file."""
    summaries = {
        definition.id: (definition.function.__doc__ or "").strip().partition("\n")[0]
        for definition in _tasks(options.tasks)
    }
    if options.json:
        print_json([{"id": task_id, "summary": summary} for task_id, summary in summaries.items()])
        return 0
    for task_id, summary in summaries.items():
        sys.stdout.write(f"{task_id:24}{summary}".rstrip() + "\n")
    return 0


def _tasks(path: Path | None) -> Sequence[TaskDefinition]:
    if path is None:
        return EXAMPLE_TASKS
    try:
        return load_tasks(path)
    except SyntaxError as error:
        raise ValueError(f"{error.filename}, line {error.lineno}: {error.msg}") from None
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error


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
    # A shell can evaluate all of it.
    sys.stdout.writelines(
        f"export {name}={shlex.quote(value)}\n" for name, value in variables(server.url, server.api_key).items()
    )
    sys.stdout.write(f"# Console: {server.url}/\n# Stop it with Ctrl-C.\n")
    sys.stdout.flush()
    await stopped.wait()
    # A second signal ends this process immediately: the stop, or Python's own, waits for threads of the tasks.
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    await server.stop()
    return 0
