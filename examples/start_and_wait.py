"""Start a session, wait for its run, and read the typed output."""

from __future__ import annotations

from pydantic import BaseModel

from helmr_provider.client import Task, sessions


class Release(BaseModel):
    """What the task takes."""

    repository: str
    decision: str


class Summary(BaseModel):
    """What the task returns."""

    repository: str
    approved: bool


RELEASE_SUMMARY = Task("release-summary", payload=Release, output=Summary)

# The external id makes a start that is sent twice start once.
started = sessions.start_and_wait(
    RELEASE_SUMMARY,
    Release(repository="acme/web", decision="approved"),
    external_id="release:acme/web:1.4.0",
    metadata={"team": "web"},
    timeout=60,
)
print(started.run.status)  # -> succeeded
print(started.run.output_as(RELEASE_SUMMARY).approved)  # -> True

session = sessions.open(external_id="release:acme/web:1.4.0")
print(session.retrieve().metadata["team"])  # -> web
session.update(tags=["shipped"])
print([run.turn_index for run in session.runs()])  # -> [0]
print(session.close(reason="released").status)  # -> closed
