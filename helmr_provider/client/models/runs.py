"""Runs as the server shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from pydantic import Field

from helmr_provider.client._schemas import parse
from helmr_provider.client.errors import PayloadValidationError
from helmr_provider.client.models.base import Instant, WireModel
from helmr_provider.client.tasks import Task

if TYPE_CHECKING:
    from helmr_provider.client._schemas import Schema

T = TypeVar("T")

TERMINAL_STATUSES = frozenset({"succeeded", "failed", "cancelled", "expired"})


class RunHandle(WireModel):
    """What names a run.

    :param id: run id.
    :param task_id: the task it runs.
    """

    id: str
    task_id: str

    def __hash__(self) -> int:
        return hash(self.id)


class RunSnapshot(RunHandle):
    """A run at one moment (schema Run).

    :param status: queued, running, waiting, succeeded, failed, cancelled or expired; other text from newer servers.
    :param attempt_number: counts task attempts from 1; None on servers that set it later.
    :param exit_code: exit code of the task process, if it ended.
    :param output: what the task returned; see :attr:`has_output`.
    """

    nullable: ClassVar[frozenset[str]] = frozenset({"output"})

    session_id: str
    project_id: str
    environment_id: str
    deployment_id: str
    deployment_task_id: str
    status: str
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    attempt_number: int | None = None
    exit_code: int | None = None
    output: Any = None
    version: str = ""
    deployment_version: str = ""
    api_version: str = ""
    sdk_version: str | None = None
    cli_version: str | None = None
    created_at: Instant
    updated_at: Instant

    @property
    def has_output(self) -> bool:
        """Whether an output is stored; it may be null."""
        return "output" in self.raw

    @overload
    def output_as(self, schema: Task[Any, T]) -> T: ...

    @overload
    def output_as(self, schema: Schema[T]) -> T: ...

    def output_as(self, schema: Task[Any, T] | Schema[T]) -> T:
        """Return the output as the type that you expect of it.

        :param schema: a type, a ready pydantic ``TypeAdapter``, or the task, whose output type is taken then.
        :raises PayloadValidationError: it does not fit, or the run has none.
        :raises ValueError: the task declares no type for its output.
        """
        wanted = schema.output if isinstance(schema, Task) else schema
        if wanted is None:
            raise ValueError(f"Task {self.task_id} declares no type for its output; pass the type itself.")
        if not self.has_output:
            raise PayloadValidationError(f"Run {self.id} has no output; it is {self.status}.")
        return parse(wanted, self.output, f"The output of run {self.id}", "Its attribute output holds it as it is.")

    @property
    def is_queued(self) -> bool:
        """Waits for a worker, also between attempts and after a wait."""
        return self.status == "queued"

    @property
    def is_running(self) -> bool:
        """A worker executes it."""
        return self.status == "running"

    @property
    def is_waiting(self) -> bool:
        """Waits for a token, a stream record or a timer."""
        return self.status == "waiting"

    @property
    def is_terminal(self) -> bool:
        """It is over and never changes again."""
        return self.status in TERMINAL_STATUSES

    @property
    def is_success(self) -> bool:
        """It ended well."""
        return self.status == "succeeded"

    @property
    def is_failed(self) -> bool:
        """Its last attempt failed."""
        return self.status == "failed"

    @property
    def is_cancelled(self) -> bool:
        """It was cancelled."""
        return self.status == "cancelled"

    @property
    def is_expired(self) -> bool:
        """It stayed queued for longer than its ttl."""
        return self.status == "expired"


class RunCounts(WireModel):
    """How many runs of the environment have each status (schema RunCounts)."""

    queued: int = 0
    running: int = 0
    waiting: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0

    @property
    def live(self) -> int:
        """Runs that have not ended."""
        return self.queued + self.running + self.waiting

    @property
    def terminal(self) -> int:
        """Runs that have ended."""
        return self.succeeded + self.failed + self.cancelled + self.expired


class RunOperation(WireModel):
    """What became of a cancellation (schema RunOperation).

    :param status: requested, applied, or rejected because the run was over already.
    """

    id: str
    run_id: str
    kind: str
    status: str
    reason: str | None = None
    created_at: Instant
    applied_at: Instant | None = None


class RunCancellation(WireModel):
    """The run after a cancel, and the operation (schema CancelRunResponse)."""

    run: RunSnapshot
    operation: RunOperation
