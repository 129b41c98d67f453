"""A generator of client calls, run with the synchronous and with the asynchronous client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider._common.sans_io import run_steps, run_steps_async
from helmr_provider.client import AsyncHelmrClient
from helmr_provider.client.errors import HelmrNotFoundError

if TYPE_CHECKING:
    from helmr_provider._common.sans_io import Steps
    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane


def first_kind(run_id: str) -> Steps[tuple[str, Any, Any]]:
    run = yield lambda client: client.runs.retrieve(run_id)
    event = yield lambda client: client.runs.events.records(run.id, page_size=1)
    nothing = yield lambda client: client.runs.events.records(run.id, cursor="1000")
    return run.id, event.kind, nothing


async def test_both_get_the_same_answers_and_the_first_item_of_an_iterator(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    run_id = client.sessions.start("echo", 1).run.id
    async with AsyncHelmrClient(url=control_plane.url, api_key=control_plane.api_key) as waiting:
        assert await run_steps_async(waiting, first_kind(run_id)) == (run_id, "run.created", None)
    assert run_steps(client, first_kind(run_id)) == (run_id, "run.created", None)


async def test_a_request_that_fails_ends_the_questions(control_plane: LocalControlPlane, client: HelmrClient) -> None:
    unknown = "00000000-0000-7000-8000-000000000000"
    with pytest.raises(HelmrNotFoundError):
        run_steps(client, first_kind(unknown))
    async with AsyncHelmrClient(url=control_plane.url, api_key=control_plane.api_key) as waiting:
        with pytest.raises(HelmrNotFoundError):
            await run_steps_async(waiting, first_kind(unknown))


def known_or_first(run_id: str, other_id: str) -> Steps[str]:
    try:
        run = yield lambda client: client.runs.retrieve(run_id)
    except HelmrNotFoundError:
        run = yield lambda client: client.runs.retrieve(other_id)
    return str(run.id)


async def test_a_generator_may_handle_the_error_of_a_call_and_continue(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    unknown = "00000000-0000-7000-8000-000000000000"
    run_id = client.sessions.start("echo", 1).run.id
    assert run_steps(client, known_or_first(unknown, run_id)) == run_id
    async with AsyncHelmrClient(url=control_plane.url, api_key=control_plane.api_key) as waiting:
        assert await run_steps_async(waiting, known_or_first(unknown, run_id)) == run_id
