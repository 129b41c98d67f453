"""Tasks to try things with: one for each thing that a run can do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from helmr_provider.local.common.jsontext import as_object
from helmr_provider.local.definitions.tasks import TaskFailure
from helmr_provider.local.execution.tasks import task

if TYPE_CHECKING:
    from helmr_provider.local.execution.context import TaskContext

_CHANGES = ("Retry the export once when the connection drops", "Show the owner in the list of runs", "Fix two typos")


@task("release-summary", inputs=("approval",), outputs=("progress",))
async def release_summary(ctx: TaskContext, payload: Any) -> dict[str, Any]:
    """Summarise a release and publish it if a human agrees.

    Payload: `repository`; and one of `decision` (taken as it is), `token_id` (the token that brings the decision), or
    neither (the task makes a token of its own and names it in the run's metadata). `wait_seconds` bounds that wait.
    """
    options = as_object(payload) or {}
    repository = str(options.get("repository", "acme/web"))
    ctx.log(f"Reading what changed in {repository} since the last release")
    await asyncio.sleep(float(options.get("work_seconds", 0.2)))
    await ctx.set_metadata(changes=len(_CHANGES))
    await ctx.publish("progress", {"step": "read", "changes": len(_CHANGES)})
    for number, change in enumerate(_CHANGES, 1):
        ctx.log(f"  {number}. {change}")
    decision = options.get("decision")
    if decision is None:
        decision = await _decision(ctx, options)
    approved = _is_approval(decision)
    ctx.log(
        "The summary is approved: publishing it" if approved else "The summary is not approved: nothing is published"
    )
    await ctx.publish("progress", {"step": "decided", "approved": approved})
    return {
        "repository": repository,
        "summary": f"{len(_CHANGES)} changes: " + "; ".join(_CHANGES),
        "approved": approved,
        "decision": decision,
    }


@task("wait-for-input", inputs=("messages", "approval"), outputs=("messages", "progress"))
async def wait_for_input(ctx: TaskContext, payload: Any) -> dict[str, Any]:
    """Take one record of the input stream `messages`, echo it on the output stream, and return it."""
    del payload
    ctx.log("Waiting for a message")
    message = await ctx.wait_for_input("messages")
    ctx.log("A message came")
    await ctx.publish("messages", message)
    return {"message": message, "turn": ctx.turn_index}


@task("conversation", inputs=("messages",), outputs=("messages",))
async def conversation(ctx: TaskContext, payload: Any) -> dict[str, Any]:
    """Answer one message after the other, until one says `end`.

    Messages come on the input stream `messages`, as text or as an object with `text` and `end`. Each is answered on the
    output stream `messages`. The answer carries the message's `id` back, in its data and as its correlation id; for a
    message without one, the correlation id of its record. Payload: `greeting`, optional.
    """
    greeting = str((as_object(payload) or {}).get("greeting", "Hello"))
    heard: list[str] = []
    ended = False
    after = 0 if ctx.cause is None else ctx.cause.sequence - 1
    while not ended:
        ctx.log("Waiting for a message")
        # The wait of a new turn would begin with the stream's first record again.
        message = await ctx.receive("messages", after_sequence=after)
        after = message.sequence
        members = as_object(message.data) or {"text": message.data}
        heard.append(str(members.get("text", "")))
        ended = members.get("end") is True
        answer = {"text": f"{greeting}. You said: {heard[-1]}", "number": len(heard)}
        # A wait gives no correlation id: the message's own data names it, or its record does.
        reference = members.get("id")
        if isinstance(reference, str):
            answer["id"] = reference
        else:
            record = await ctx.peek("messages", after_sequence=message.sequence - 1)
            reference = None if record is None else record.correlation_id
        await ctx.publish("messages", answer, correlation_id=reference)
    return {"messages": len(heard), "heard": heard}


@task("echo")
async def echo(ctx: TaskContext, payload: Any) -> Any:
    """Return the payload."""
    ctx.log("Returning the payload as it came")
    return payload


@task("fail")
async def fail(ctx: TaskContext, payload: Any) -> None:
    """Fail. Payload: `message`, `failure_kind`, `exit_code`, all optional."""
    options = as_object(payload) or {}
    message = str(options.get("message", "the example task fails on purpose"))
    ctx.log("About to fail")
    ctx.stderr(f"{message}\n")
    exit_code = options.get("exit_code")
    raise TaskFailure(
        message,
        failure_kind=str(options.get("failure_kind", "worker_failed")),
        exit_code=exit_code if isinstance(exit_code, int) else None,
    )


@task("retry-once", retry={"maxAttempts": 2, "backoff": {"minMs": 200, "maxMs": 200, "factor": 1, "jitter": "none"}})
async def retry_once(ctx: TaskContext, payload: Any) -> dict[str, Any]:
    """Fail the first attempt and succeed with the second."""
    del payload
    ctx.log(f"Attempt {ctx.attempt_number}")
    if ctx.attempt_number == 1:
        ctx.stderr("the first attempt fails on purpose\n")
        raise TaskFailure("the first attempt fails on purpose")
    return {"attempt": ctx.attempt_number}


@task("work")
async def work(ctx: TaskContext, payload: Any) -> dict[str, Any]:
    """Take some time. Payload: `seconds` (1 if absent); `waiting: true` sleeps on a timer, the run is `waiting`."""
    options = as_object(payload) or {}
    seconds = float(options.get("seconds", 1.0))
    ctx.log(f"Working for {seconds:g} s")
    if options.get("waiting"):
        await ctx.sleep(seconds)
    else:
        await asyncio.sleep(seconds)
    ctx.log("Done")
    return {"seconds": seconds}


EXAMPLE_TASKS = (release_summary, wait_for_input, conversation, echo, fail, retry_once, work)


async def _decision(ctx: TaskContext, options: dict[str, Any]) -> Any:
    token_id = options.get("token_id")
    if not isinstance(token_id, str):
        token_id = (await ctx.create_token(timeout="1h", tags=["release-summary"])).id
        await ctx.set_metadata(token_id=token_id)
    ctx.log(f"Waiting for a decision on token {token_id}")
    seconds = options.get("wait_seconds")
    decision = await ctx.wait_for_token(token_id, timeout=float(seconds) if seconds is not None else None)
    ctx.log("The decision has come")
    return decision


def _is_approval(decision: Any) -> bool:
    members = as_object(decision)
    if members is not None:
        return bool(members.get("approved")) or members.get("chosen") == ["Approve"]
    return decision is True or decision in ("approve", "approved", "yes")
