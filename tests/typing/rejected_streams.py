"""Wrong calls; each line that ends in ``# wrong`` must be refused by both type checkers, and no other."""

from __future__ import annotations

from pydantic import BaseModel, TypeAdapter

from helmr_provider.client import (
    AsyncHelmrClient,
    HelmrClient,
    InputStream,
    OutputStream,
    PublicScope,
    RunSnapshot,
    SessionHandle,
    Task,
)


class Review(BaseModel):
    repository: str


REVIEW = Task("code-review", payload=Review, output=int)
REVIEWS = Task("reviews", payload=list[Review])
NIGHTLY = Task("nightly")
MAYBE = Task("maybe", payload=TypeAdapter[Review | None](Review | None))


def typed_targets(client: HelmrClient, run: RunSnapshot) -> None:
    client.sessions.start(REVIEW)  # wrong
    client.sessions.start(REVIEW, "a repository")  # wrong
    client.sessions.start(MAYBE, "a repository")  # wrong
    client.sessions.start(MAYBE, [{"repository": "r"}])  # wrong
    client.sessions.start(REVIEWS, ["a repository"])  # wrong
    client.sessions.start(REVIEWS, {"repository": "r"})  # wrong
    client.sessions.start_and_wait(REVIEWS, [3])  # wrong
    client.sessions.start(NIGHTLY, {"a": 1})  # wrong
    client.sessions.start(REVIEW, Review(repository="r"), external_id=3)  # wrong
    client.sessions.start_and_wait(REVIEW, 3, timeout=5)  # wrong
    name: str = run.output_as(REVIEW)  # wrong
    del name


def session_streams(handle: SessionHandle) -> None:
    handle.input(OutputStream("progress", Review))  # wrong
    handle.output(InputStream("messages", Review))  # wrong
    handle.input(InputStream("messages", Review)).send("text")  # wrong
    handle.input(InputStream("messages", Review)).send([{"repository": "r"}])  # wrong
    handle.input(InputStream("messages", Review)).send(None)  # wrong
    handle.input(InputStream("messages", list[Review])).send(["text"])  # wrong
    handle.input(InputStream("messages", list[int])).send({"repository": "r"})  # wrong
    handle.output(OutputStream("progress", Review)).append(3)  # wrong
    handle.output(OutputStream("progress", Review)).append({"repository": "r"}, correlation_id=3)  # wrong
    handle.output(OutputStream("progress", Review)).append({"repository": "r"}, public_access_token="t")  # wrong
    handle.output(OutputStream("progress", Review)).extend([3])  # wrong
    handle.output("progress").read(after="3")  # wrong
    handle.output("progress").extend(3)  # wrong
    PublicScope.input(handle, OutputStream("progress"))  # wrong
    PublicScope.input(3, "messages")  # wrong


def workspaces(client: HelmrClient) -> None:
    client.workspaces.create()  # wrong
    client.workspaces.open(3)  # wrong
    handle = client.workspaces.open("id")
    handle.exec([1])  # wrong
    handle.files.read("README.md", source="latest")  # wrong
    handle.execs.open("id").stdin.write(b"y")  # wrong
    client.schedules.create(task="nightly", cron="* * * * *")  # wrong


async def asynchronous(client: AsyncHelmrClient) -> None:
    await client.sessions.start(REVIEW, "a repository")  # wrong
    for record in client.sessions.open("id").output("progress").iter():  # wrong
        del record
