"""Run a generator of client calls with the synchronous or the asynchronous client (the sans-I/O pattern).

A worker and the triggerer need the same calls, where each depends on the responses before it. The generator is written
once: it yields calls, and is sent their results or thrown their errors.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from helmr_provider.client import AsyncHelmrClient, HelmrClient

R = TypeVar("R")
S = TypeVar("S")

ClientCall: TypeAlias = Callable[[Any], Any]
"""Makes one request with a client. If it returns an iterator, its result is the first item, or ``None``."""

Steps: TypeAlias = Generator[ClientCall, Any, R]


def drive(steps: Generator[S, Any, R], perform: Callable[[S], Any]) -> R:
    """Run a generator: perform each step that it yields, send it the result, and return what it returns.

    :param steps: yields steps, and is sent their results or thrown their errors.
    :param perform: carries out one step.
    """
    try:
        step = next(steps)
        while True:
            try:
                result = perform(step)
            except Exception as error:  # noqa: BLE001 - the generator handles it, or raises it again
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as end:
        returned: R = end.value
        return returned


def run_steps(client: HelmrClient, steps: Steps[R]) -> R:
    """Run the steps one after another and return their result.

    :param client: the worker's client.
    :param steps: yields calls, and is sent their results or thrown their errors.
    :raises HelmrError: a request failed.
    """

    def perform(call: ClientCall) -> Any:
        result = call(client)
        return next(result, None) if isinstance(result, Iterator) else result

    return drive(steps, perform)


async def run_steps_async(client: AsyncHelmrClient, steps: Steps[R]) -> R:
    """Run the steps one after another with the asynchronous client and return their result.

    :param client: the triggerer's client.
    :param steps: yields calls, and is sent their results or thrown their errors.
    :raises HelmrError: a request failed.
    """

    async def perform(call: ClientCall) -> Any:
        result = call(client)
        if isinstance(result, AsyncGenerator):
            async with aclosing(result) as items:
                return await anext(items, None)
        return await result

    try:
        call = next(steps)
        while True:
            try:
                result = await perform(call)
            except Exception as error:  # noqa: BLE001 - as in drive
                call = steps.throw(error)
            else:
                call = steps.send(result)
    except StopIteration as end:
        returned: R = end.value
        return returned
