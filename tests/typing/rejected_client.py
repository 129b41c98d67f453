"""Wrong calls; each line that ends in ``# wrong`` must be refused by both type checkers, and no other."""

from __future__ import annotations

from datetime import datetime

from helmr_provider.client import AsyncHelmrClient, HelmrClient, RunSnapshot, idempotency_key


def construction() -> None:
    HelmrClient("https://helmr.example.com")  # wrong
    HelmrClient(url="https://helmr.example.com", token="x")  # wrong
    HelmrClient(max_streams="many")  # wrong


def calls(client: HelmrClient, run: RunSnapshot) -> None:
    client.sessions.start()  # wrong
    client.sessions.start("task", {}, "external")  # wrong
    client.sessions.start("task", external_id=3)  # wrong
    client.sessions.start("task", timeout=[3])  # wrong
    client.runs.retrieve(run, timeout=[3])  # wrong
    client.runs.retrieve(run, 3)  # wrong
    client.sessions.open("s").runs(timeout=datetime.now())  # wrong
    client.sessions.retrieve(3)  # wrong
    client.runs.wait(run, timeout=[5])  # wrong
    client.runs.wait(3)  # wrong
    client.runs.cancel(run, "because")  # wrong
    client.runs.list(status=1)  # wrong
    client.tokens.create(timeout=datetime.now())  # wrong
    client.tokens.complete("token")  # wrong
    idempotency_key(1)  # wrong


async def forgotten(client: AsyncHelmrClient) -> None:
    started = client.sessions.start("task")
    started.session  # wrong
    for event in client.runs.events.subscribe("run"):  # wrong
        del event
