"""Commands and terminals in a workspace, and the bytes they take and give (contract/behaviour.md section 14)."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, Field

from helmr_provider.client.models.base import Instant, OptionalText, WireModel, decode_base64

# Newer servers call a materialization a mount (contract/behaviour.md section 20).
_MATERIALIZATION = AliasChoices("materialization_id", "workspace_mount_id")


class Exec(WireModel):
    """A command at one moment (schema Exec).

    :param env_shape: its environment variables, values included: no place for secrets.
    :param state: materializing or queued, then running, and at the end exited, terminated, lost or failed.
    :param exit_code: of one that exited by itself; a signal ends it without.
    :param error: ``{}`` unless it failed or was lost.
    :param stdin_cursor: where the next write to its input begins, bytes.
    :param is_cached: of a creation only: it existed already under this idempotency key.
    """

    id: str
    workspace_id: str
    materialization_id: OptionalText = Field(default=None, validation_alias=_MATERIALIZATION)
    command: tuple[str, ...]
    cwd: str = ""
    env_shape: dict[str, str] = Field(default_factory=dict[str, str], repr=False)
    filesystem_mode: str = "write"
    state: str
    detached: bool = False
    process_id: OptionalText = None
    exit_code: int | None = None
    signal: OptionalText = None
    error: Any = None
    stdout_cursor: int = 0
    stderr_cursor: int = 0
    stdin_cursor: int = 0
    stdin_closed_at: Instant | None = None
    created_at: Instant
    started_at: Instant | None = None
    exited_at: Instant | None = None
    updated_at: Instant
    is_cached: bool = False

    @property
    def is_terminal(self) -> bool:
        """Whether it is over."""
        return self.state in {"exited", "terminated", "lost", "failed"}

    @property
    def is_success(self) -> bool:
        """Whether it exited with code 0."""
        return self.state == "exited" and self.exit_code == 0


class Pty(WireModel):
    """A terminal at one moment (schema Pty).

    :param cols: columns; after a resize the old ones until it is done.
    :param state: creating, then open or resizing, then closing, and at the end closed, lost or failed.
    :param input_cursor: where the next input begins, bytes.
    :param error: ``{}`` unless it failed or was lost.
    :param is_cached: of a creation only: it existed already under this idempotency key.
    """

    id: str
    workspace_id: str
    materialization_id: OptionalText = Field(default=None, validation_alias=_MATERIALIZATION)
    cwd: str = ""
    cols: int
    rows: int
    filesystem_mode: str = "write"
    state: str
    process_id: OptionalText = None
    output_cursor: int = 0
    input_cursor: int = 0
    error: Any = None
    created_at: Instant
    started_at: Instant | None = None
    closed_at: Instant | None = None
    updated_at: Instant
    is_cached: bool = False

    @property
    def is_terminal(self) -> bool:
        """Whether it is over."""
        return self.state in {"closed", "lost", "failed"}

    @property
    def is_open(self) -> bool:
        """Whether it takes input."""
        return self.state in {"open", "resizing"}


class StreamChunk(WireModel):
    """Some bytes of an input or output (schema StreamChunk). It can split a character.

    :param stream: stdin, stdout, stderr, input or output.
    :param offset_start: position of its first byte.
    :param offset_end: the cursor behind it.
    """

    id: str
    stream: str
    offset_start: int
    offset_end: int
    data: str = Field(repr=False)
    observed_at: Instant
    created_at: Instant

    @property
    def content(self) -> bytes:
        """The bytes."""
        return decode_base64(self.data)

    def content_from(self, cursor: int) -> bytes:
        """Return the bytes from a cursor on: the first chunk behind a cursor can begin before it."""
        return self.content[max(0, cursor - self.offset_start) :]


class StreamTerminal(WireModel):
    """The end of an output, because its command or terminal is over (schema StreamTerminal).

    :param resource_kind: workspace_exec or workspace_pty.
    :param state: what it ended as.
    :param cursor: bytes there were.
    """

    resource_kind: str = ""
    resource_id: str = ""
    stream: str = ""
    state: str
    cursor: int = 0
    error: Any = None
