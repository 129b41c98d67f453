"""Run blocking functions in threads that end before the calling coroutine."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
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
    # Not a thread of the event loop's own pool: user tasks can block all of those.
    thread = ThreadPoolExecutor(1)
    work = asyncio.get_running_loop().run_in_executor(thread, lambda: function(*args, **kwargs))
    thread.shutdown(wait=False)
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
