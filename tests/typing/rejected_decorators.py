"""Wrong uses; each line that ends in ``# wrong`` must be refused by both type checkers, and no other."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from helmr_provider.client import Task
from helmr_provider.decorators import helmr_session_task


class Review(BaseModel):
    repository: str


REVIEW: Task[Review, Any] = Task("code-review", payload=Review)


@helmr_session_task(task=REVIEW, deferrable=True)
def review(repository: str) -> Review:
    return Review(repository=repository)


@helmr_session_task(task="anything")
def anything(number: int) -> object:
    return number


@helmr_session_task(task=REVIEW)  # wrong
def other_payload(number: int) -> int:
    return number


@helmr_session_task(task=3)  # wrong
def no_task() -> int:
    return 1


def calls() -> None:
    review("acme/web")
    review.override(task_id="again")("acme/web")
    review.partial(repository="acme/web")
    review(3)  # wrong
    review()  # wrong
    anything("three")  # wrong
