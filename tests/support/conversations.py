"""A Helmr task that does, turn by turn, what a test's payload says, and sessions of it; tokens are gates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helmr_provider.local import task
from tests.support.polling import until

if TYPE_CHECKING:
    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.sessions import SessionStart
    from helmr_provider.local import TaskContext


@task("talk", inputs=("messages", "asides"), outputs=("answers", "progress"))
async def talk(ctx: TaskContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Do the steps of this turn, the last turn's when there are no more.

    Steps: `take` a message, `take asides`, `answer` what was taken last, `progress`, `fail`, or `gate` and a token id.
    """
    turns = payload["turns"]
    taken: list[Any] = []
    correlation_id = None
    after = None if ctx.cause is None else ctx.cause.sequence - 1
    for step in turns[min(ctx.turn_index, len(turns) - 1)]:
        match step.split():
            case ["take", *stream]:
                record = await ctx.receive(stream[0] if stream else "messages", after_sequence=after)
                after = None
                taken.append(record.data)
                peeked = await ctx.peek(record.stream, after_sequence=record.sequence - 1)
                correlation_id = None if peeked is None else peeked.correlation_id
            case ["answer"]:
                await ctx.publish("answers", {"to": taken[-1]}, correlation_id=correlation_id)
            case ["progress"]:
                await ctx.publish("progress", {"turn": ctx.turn_index})
            case ["gate", token_id]:
                await ctx.wait_for_token(token_id)
            case ["fail"]:
                ctx.stderr("no idea what to say\n")
                raise RuntimeError("the agent gave up")
            case _:
                raise ValueError(step)
    return {"turn": ctx.turn_index, "taken": taken}


def session_of(client: HelmrClient, *turns: str, external_id: str = "chat") -> SessionStart:
    """Start a session whose turns take the steps given, separated by commas."""
    steps = [turn.split(", ") if turn else [] for turn in turns]
    return client.sessions.start("talk", {"turns": steps}, external_id=external_id)


def idle(client: HelmrClient, started: SessionStart) -> str:
    """Wait until the first run of a session is over; returns the session's id."""
    until_status(client, started.run.id, "succeeded")
    return started.session.id


def until_status(client: HelmrClient, run_id: str, status: str) -> None:
    """Wait until a run has a status."""
    until(lambda: client.runs.retrieve(run_id).status == status)
