"""Tasks of the local control plane under test: each does what a test tells it, when the test says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local import task
from helmr_provider.local.example_tasks import conversation, echo, fail, release_summary, wait_for_input, work

if TYPE_CHECKING:
    from helmr_provider.local import TaskContext

# The examples run here, too.
__all__ = [
    "conversation",
    "echo",
    "fail",
    "failing",
    "gated",
    "hesitant",
    "release_summary",
    "talking",
    "wait_for_input",
    "work",
]


@task("gated")
async def gated(context: TaskContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Run until the test completes the token that the payload names."""
    context.log("waiting at the gate")
    opened = await context.wait_for_token(payload["token_id"])
    return {"opened_with": opened} | ({"number": payload["number"]} if "number" in payload else {})


@task("failing")
async def failing(context: TaskContext, payload: dict[str, Any]) -> None:
    """Fail, having said why on stderr."""
    context.log("compiling")
    context.stderr("no space left on device\n")
    raise RuntimeError("the build broke")


@task("talking")
async def talking(context: TaskContext, payload: dict[str, Any]) -> None:
    """Say that it waits at the gate, and that it is open."""
    context.log("waiting at the gate")
    await context.wait_for_token(payload["token_id"])
    context.stderr("the gate is open\n")


@task("hesitant", inputs=("messages",), outputs=("messages",))
async def hesitant(context: TaskContext, payload: dict[str, Any]) -> None:
    """Take one message after the other, and answer none before the test completes the token that the payload names."""
    heard: list[Any] = []
    while True:
        message = await context.receive("messages")
        heard.append(message.data)
        await context.wait_for_token(payload["token_id"])
        record = await context.peek("messages", after_sequence=message.sequence - 1)
        correlation_id = None if record is None else record.correlation_id
        await context.publish("messages", {"heard": heard}, correlation_id=correlation_id)
