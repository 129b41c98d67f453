"""Waits for tokens of an asynchronous client, against the local control plane on a real socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from helmr_provider.client import AsyncHelmrClient, HelmrNotFoundError, HelmrTimeoutError
from helmr_provider.local import LocalControlPlane
from tests.client.waiting.tasks import MISSING
from tests.support.polling import until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="module")
def plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane() as server:
        yield server


@pytest.fixture
async def client(plane: LocalControlPlane) -> AsyncIterator[AsyncHelmrClient]:
    async with AsyncHelmrClient(url=plane.url, api_key=plane.api_key) as opened:
        yield opened


@pytest.mark.parametrize("others", [0, 9])
async def test_a_token_is_waited_for_until_it_is_not_pending(client: AsyncHelmrClient, others: int) -> None:
    tokens = [await client.tokens.create(timeout="1h") for _ in range(others + 1)]
    waits = [asyncio.create_task(client._waiter.token(token.id)) for token in tokens]
    await until_async(lambda: client._waiter.stats.requests.total() > 0)
    assert not any(wait.done() for wait in waits)
    await client.tokens.complete(tokens[0].id, {"approved": True})
    token = await waits[0]
    assert (token.id, token.status, token.data) == (tokens[0].id, "completed", {"approved": True})
    for other in tokens[1:]:
        await client.tokens.cancel(other.id)
    assert {token.status for token in await asyncio.gather(*waits[1:])} <= {"cancelled"}
    assert (client._waiter.stats.requests["list tokens"] > 0) == (others > 0)


async def test_a_missing_token_raises_its_404(client: AsyncHelmrClient) -> None:
    with pytest.raises(HelmrNotFoundError):
        await client._waiter.token(MISSING)


async def test_a_token_that_stays_pending_raises_at_the_deadline(client: AsyncHelmrClient) -> None:
    token = await client.tokens.create(timeout="1h")
    with pytest.raises(HelmrTimeoutError, match=f"token {token.id}"):
        await client._waiter.token(token.id, timeout=0.2)
