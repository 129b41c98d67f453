"""Several requests in a row, each of which depends on the answers before it, by a client that blocks or not.

What a worker looks at and what the triggerer looks at is the same; by this, so is the code.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from helmr_provider.client import AsyncHelmrClient, HelmrClient

R = TypeVar("R")

Question: TypeAlias = Callable[[Any], Any]
"""Given a client, makes one request. One that returns an iterator is answered with the first item, or ``None``."""

Questions: TypeAlias = Generator[Question, Any, R]


def ask(client: HelmrClient, questions: Questions[R]) -> R:
    """Ask one question after the other.

    :param client: of the worker.
    :param questions: yields what to ask, and is sent the answers.
    :raises HelmrError: a request failed.
    """
    answer: Any = None
    while True:
        try:
            question = questions.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result
        answer = question(client)
        if isinstance(answer, Iterator):
            answer = next(answer, None)


async def aask(client: AsyncHelmrClient, questions: Questions[R]) -> R:
    """Ask one question after the other, without blocking.

    :param client: of the triggerer.
    :param questions: yields what to ask, and is sent the answers.
    :raises HelmrError: a request failed.
    """
    answer: Any = None
    while True:
        try:
            question = questions.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result
        answer = question(client)
        if isinstance(answer, AsyncGenerator):
            async with aclosing(answer) as items:
                answer = await anext(items, None)
        else:
            answer = await answer
