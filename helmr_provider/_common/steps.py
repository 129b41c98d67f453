"""Run a generator of client calls with either client.

A worker and the triggerer need the same calls, where each depends on the responses before it. The generator is written
once: it yields calls and is sent their results.
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

    :param steps: yields steps and is sent their results.
    :param perform: carries out one step.
    """
    result: Any = None
    while True:
        try:
            step = steps.send(result)
        except StopIteration as end:
            returned: R = end.value
            return returned
        result = perform(step)


def run_steps(client: HelmrClient, steps: Steps[R]) -> R:
    """Run the steps one after another and return their result.

    :param client: the worker's client.
    :param steps: yields calls and is sent their results.
    :raises HelmrError: a request failed.
    """

    def perform(call: ClientCall) -> Any:
        result = call(client)
        return next(result, None) if isinstance(result, Iterator) else result

    return drive(steps, perform)


async def run_steps_async(client: AsyncHelmrClient, steps: Steps[R]) -> R:
    """Run the steps one after another with the asynchronous client and return their result.

    :param client: the triggerer's client.
    :param steps: yields calls and is sent their results.
    :raises HelmrError: a request failed.
    """
    result: Any = None
    while True:
        try:
            call = steps.send(result)
        except StopIteration as end:
            returned: R = end.value
            return returned
        result = call(client)
        if isinstance(result, AsyncGenerator):
            async with aclosing(result) as items:
                result = await anext(items, None)
        else:
            result = await result
