"""The last lines of outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from helmr_provider.airflow_ui.views import Tail
from helmr_provider.client.errors import HelmrApiError, HelmrGoneError

if TYPE_CHECKING:
    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.execs import Exec
    from helmr_provider.client.models.logs import LogSnapshot

MAX_LINES: Final = 200
MAX_BYTES: Final = 64 * 1024

_STREAMS: Final = ("stdout", "stderr")
_PAGE: Final = 20


def tail(stream: str, text: str, total: int, *, lines: int = MAX_LINES) -> Tail:
    """Keep the last lines of a text.

    :param stream: stdout or stderr.
    :param text: the part that is known.
    :param total: bytes that were written.
    :param lines: most lines to keep.
    """
    kept = "\n".join(text[-MAX_BYTES:].rstrip("\n").split("\n")[-lines:])
    # Of a progress bar, what a terminal would show in the end.
    shown = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in kept.split("\n"))
    cut = len(kept) < len(text.rstrip("\n")) or total > len(text.encode())
    return Tail(stream=stream, text=shown, total=total, cut=cut)


def tails_of_run(snapshot: LogSnapshot) -> tuple[Tail, ...]:
    """Keep the last lines of both streams of a run; a stream that is empty is left out.

    :param snapshot: the run's output.
    """
    streams = (
        ("stdout", snapshot.stdout, snapshot.stdout_bytes),
        ("stderr", snapshot.stderr, snapshot.stderr_bytes),
    )
    return tuple(tail(stream, text, size) for stream, text, size in streams if text.strip())


def tail_of_exec(client: HelmrClient, command: Exec, *, lines: int = MAX_LINES) -> tuple[Tail, ...]:
    """Read the last lines of both streams of a command; a stream that is empty is left out.

    :param client: of the connection.
    :param command: the command.
    :param lines: most lines to keep.
    """
    handle = client.workspaces.open(command.workspace_id).execs.open(command.id)
    found: list[Tail] = []
    for stream in _STREAMS:
        total: int = getattr(command, f"{stream}_cursor")
        if not total:
            continue
        begin = max(0, total - MAX_BYTES)
        source = handle.stdout if stream == "stdout" else handle.stderr
        try:
            chunks = source.list(cursor=begin, limit=_PAGE)
        except HelmrGoneError:
            continue
        except HelmrApiError as error:
            if error.retryable:
                raise
            continue
        position, content = begin, b""
        for chunk in chunks:
            content += chunk.content_from(position)
            position = chunk.offset_end
        kept = tail(stream, content[-MAX_BYTES:].decode("utf-8", "replace"), total, lines=lines)
        if kept.text.strip():
            found.append(kept)
    return tuple(found)
