"""Blocking functions in threads, which end before the coroutine that called them does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


async def in_thread(
    function: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Result:
    """Call a blocking function in a thread and return its result.

    A cancellation takes effect when the function has returned. With :func:`asyncio.to_thread` the thread would continue
    after the caller has ended, and use files that are removed next.
    """
    work = asyncio.get_running_loop().run_in_executor(None, lambda: function(*args, **kwargs))
    cancellation: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        # Retrieved, so that it is not reported as lost.
        work.exception()
        raise cancellation
    return work.result()
