"""Event triggers that read together, with Airflow's own shared streams: what Airflow has not stored fires again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helmr_provider._common.versions import AIRFLOW_V_3_3_PLUS
from helmr_provider.client import AsyncHelmrClient
from tests.support.event_triggers import (
    Store,
    begin_session,
    ended,
    output,
    publish,
    run_of,
    steady,
    triggerer,
    until_kept,
)
from tests.support.journal import until_requested_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="shared streams came with Airflow 3.3")


@pytest.fixture
async def client(control_plane: LocalControlPlane) -> AsyncIterator[AsyncHelmrClient]:
    async with AsyncHelmrClient(url=control_plane.url, api_key=control_plane.api_key) as client:
        yield client


@pytest.fixture(autouse=True)
def deployed(control_plane: LocalControlPlane) -> None:
    control_plane.deploy(steady)


async def test_triggers_of_one_connection_share_the_reading_for_all_tasks(
    helmr_connection: str, client: AsyncHelmrClient, control_plane: LocalControlPlane
) -> None:
    async with triggerer() as each:
        fired = [each.start(ended(start="earliest", helmr_task=name), Store()) for name in ("echo", "steady", "fail")]
        run_id = await run_of(client)
        await fired[0].until(1)
        control_plane.clear_journal()
        await until_requested_async(control_plane, "countRuns", times=3)
        operations = [entry.operation for entry in control_plane.journal]
        steady_id = await run_of(client, "steady")
        await fired[1].until(1)
    assert set(operations) == {"countRuns"}, "nothing is listed while nothing ends"
    assert [each.run_ids for each in fired] == [[run_id], [steady_id], []]


async def test_a_restarted_triggerer_continues_at_the_stored_position(
    helmr_connection: str, client: AsyncHelmrClient
) -> None:
    await begin_session(client)
    stores = Store(), Store()
    async with triggerer() as first:
        fired, runs = first.start(output(start="earliest"), stores[0]), first.start(ended(start="earliest"), stores[1])
        await publish(client, "one")
        before = await run_of(client)
        await fired.until(1)
        await runs.until(1)
        await until_kept(stores[0], 1)
        await until_kept(stores[1], 1)
    await publish(client, "without a watcher")
    between = await run_of(client)
    async with triggerer() as second:
        fired, runs = (
            second.start(output(start="earliest"), stores[0]),
            second.start(ended(start="earliest"), stores[1]),
        )
        await fired.until(1)
        await runs.until(1)
    assert (fired.sequences, runs.run_ids) == ([2], [between])
    assert before != between


async def test_where_watching_began_is_kept_before_anything_has_happened(
    helmr_connection: str, client: AsyncHelmrClient
) -> None:
    await begin_session(client)
    await publish(client, "old")
    store = Store()
    async with triggerer() as first:
        first.start(output(), store)
        await until_kept(store, 1)
    await publish(client, "without a watcher")
    async with triggerer() as second:
        fired = second.start(output(), store)
        await fired.until(1)
    assert fired.sequences == [2]


async def test_what_airflow_has_not_stored_fires_again_after_a_restart(
    helmr_connection: str, client: AsyncHelmrClient
) -> None:
    await begin_session(client)
    await publish(client, *range(3))
    store = Store()
    async with triggerer(stores_events=False) as first:
        fired = first.start(output(start="earliest"), store)
        await fired.until(3)
    async with triggerer() as second:
        again = second.start(output(start="earliest"), store)
        await again.until(3)
        await until_kept(store, 3)
    assert again.events == fired.events, "the same ids, so that duplicates can be recognized"


async def test_an_event_that_airflow_lost_while_it_ended_the_trigger_fires_again(
    helmr_connection: str, client: AsyncHelmrClient
) -> None:
    await begin_session(client)
    await publish(client, "one")
    store = Store()
    async with triggerer() as first:
        fired = first.start(output(start="earliest"), store, loses_event=True)
        await fired.until(1)
    async with triggerer() as second:
        again = second.start(output(start="earliest"), store)
        await again.until(1)
    assert again.events == fired.events


async def test_a_late_subscriber_gets_earlier_events_and_none_gets_an_event_twice(
    helmr_connection: str, client: AsyncHelmrClient
) -> None:
    await begin_session(client)
    await publish(client, *range(5))
    async with triggerer() as each:
        early = each.start(output(start="earliest"), Store())
        await early.until(5)
        late = each.start(output(start="earliest", correlation_id="turn"), Store())
        await publish(client, "wanted", correlation_id="turn")
        await late.until(1)
        later = each.start(output(start="earliest"), Store())
        await later.until(6)
        await publish(client, "last")
        await early.until(7)
        await later.until(7)
    assert early.sequences == later.sequences == [1, 2, 3, 4, 5, 6, 7]
    assert late.sequences == [6]


async def test_one_who_goes_does_not_take_the_others_along(helmr_connection: str, client: AsyncHelmrClient) -> None:
    await begin_session(client)
    stores = Store(), Store()
    async with triggerer() as each:
        goes = each.start(output(start="earliest"), stores[0])
        stays = each.start(output(start="earliest"), stores[1])
        await publish(client, "one")
        await goes.until(1)
        await stays.until(1)
        await each.stop(0)
        await publish(client, "two")
        await stays.until(2)
        await until_kept(stores[1], 2)
    assert stays.sequences == [1, 2]


async def test_a_store_that_fails_costs_repetitions_and_nothing_else(
    helmr_connection: str, client: AsyncHelmrClient
) -> None:
    await begin_session(client)
    store = Store()
    async with triggerer() as each:
        fired = each.start(output(start="earliest"), store)
        await until_kept(store, 0)
        store.is_broken = True
        await publish(client, "one")
        await fired.until(1)
        store.is_broken = False
        await publish(client, "two")
        await fired.until(2)
        await until_kept(store, 2)
    assert fired.sequences == [1, 2]


async def test_a_burst_longer_than_airflows_queue_is_handed_on_completely(
    helmr_connection: str, client: AsyncHelmrClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRIGGERER__SHARED_STREAM_SUBSCRIBER_QUEUE_SIZE", "7")
    await begin_session(client)
    await publish(client, *range(130))
    store = Store()
    async with triggerer() as each:
        fired = each.start(output(start="earliest"), store)
        await fired.until(130)
        await until_kept(store, 130)
    assert fired.sequences == list(range(1, 131))


async def test_equal_triggers_on_two_assets_keep_their_cursor_with_both(
    helmr_connection: str, client: AsyncHelmrClient
) -> None:
    await begin_session(client)
    first, second = Store(), Store()
    both = Store()
    both._by_name = {"one": first, "two": second}
    async with triggerer() as each:
        fired = each.start(output(start="earliest"), both)
        await publish(client, "one")
        await fired.until(1)
        await until_kept(first, 1)
        await until_kept(second, 1)


async def test_an_asset_that_is_watched_later_by_the_same_trigger_makes_it_forget_nothing(
    helmr_connection: str, client: AsyncHelmrClient
) -> None:
    await begin_session(client)
    store, added = Store(), Store()
    async with triggerer() as each:
        each.start(output(), store)
        await until_kept(store, 0)
    await publish(client, "without a watcher")
    both = Store()
    both._by_name = {"one": store, "two": added}
    async with triggerer() as each:
        fired = each.start(output(), both)
        await fired.until(1)
        await until_kept(added, 1)
