"""What the tests of both waiters wait for: tasks that end in time, at a word, on a second try, or badly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from helmr_provider.local import TaskFailure, task

if TYPE_CHECKING:
    from helmr_provider.local import TaskContext

MISSING = "00000000-0000-7000-8000-000000000000"


@task("take-time", outputs=("result",))
async def take_time(ctx: TaskContext, payload: Any) -> Any:
    ctx.log("working")
    await asyncio.sleep(payload["seconds"])
    return payload


@task("at-a-word", inputs=("word",))
async def at_a_word(ctx: TaskContext, payload: Any) -> Any:
    return await ctx.wait_for_input("word")


@task("second-try", retry={"maxAttempts": 2, "backoff": {"minMs": 600, "maxMs": 600, "factor": 1, "jitter": "none"}})
async def second_try(ctx: TaskContext, payload: Any) -> Any:
    if ctx.attempt_number == 1:
        raise TaskFailure("the first attempt fails on purpose")
    return {"attempt": ctx.attempt_number}


@task("fail")
async def fail(ctx: TaskContext, payload: Any) -> None:
    raise TaskFailure("fails on purpose")


TASKS = [take_time, at_a_word, second_try, fail]
