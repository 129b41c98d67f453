"""From the connection to clients: fetched once, masked, without streams on a worker."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, redact

from helmr_provider._common.versions import AIRFLOW_V_3_1_PLUS
from helmr_provider.client.errors import HelmrConfigError
from helmr_provider.get_provider_info import CONNECTION_FIELDS, FIELD_BEHAVIOUR
from helmr_provider.hooks.helmr import HelmrHook

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.local import LocalControlPlane

KEY = "hlmr_sk_abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that Airflow is asked for."""
    conn_ids: list[str] = []
    get = HelmrHook.get_connection

    def get_connection(conn_id: str) -> Any:
        conn_ids.append(conn_id)
        return get(conn_id)

    monkeypatch.setattr(HelmrHook, "get_connection", staticmethod(get_connection))
    if AIRFLOW_V_3_1_PLUS:
        aget = HelmrHook.aget_connection

        async def aget_connection(conn_id: str) -> Any:
            conn_ids.append(conn_id)
            return await aget(conn_id)

        monkeypatch.setattr(HelmrHook, "aget_connection", staticmethod(aget_connection))
    return conn_ids


async def test_one_fetched_connection_builds_both_clients(
    helmr_connection: str, control_plane: LocalControlPlane, fetches: list[str]
) -> None:
    hook = HelmrHook(helmr_connection)
    async with await hook.get_async_client() as client:
        assert (await client.runs.count()).running == 0
    assert await asyncio.to_thread(lambda: hook.client.runs.count().running) == 0
    hook.client.close()
    assert hook.settings is await hook.aget_settings()
    assert fetches == [helmr_connection]
    assert [entry.operation for entry in control_plane.journal] == ["countRuns", "countRuns"]


def test_the_blocking_client_is_made_once_and_is_the_connection_object(connect: Callable[..., str]) -> None:
    hook = HelmrHook(connect(host="https://helmr.example", password=KEY))
    assert hook.get_conn() is hook.client


async def test_a_worker_holds_no_streams_unless_it_says_so(connect: Callable[..., str]) -> None:
    hook = HelmrHook(connect(host="https://helmr.example", password=KEY, extra={"streams": 7}))
    assert (await hook.aget_settings()).streams == 7
    assert hook.client.max_streams == 0
    async with await hook.get_async_client() as client:
        assert client.max_streams == 0
    async with await hook.get_async_client(max_streams=7) as client:
        assert client.max_streams == 7


def test_the_key_is_masked_and_in_no_repr(connect: Callable[..., str]) -> None:
    hook = HelmrHook(connect(host="https://helmr.example", password=f"{KEY}\n"))
    assert KEY not in f"{hook.settings!r} {hook.client!r} {hook!r} {vars(hook)!r}"
    assert KEY not in str(redact(f"Bearer {KEY}"))


async def test_the_key_is_masked_when_fetched_on_an_event_loop(connect: Callable[..., str]) -> None:
    hook = HelmrHook(connect(host="https://helmr.example", password="hlmr_sk_0000111122223333\n"))
    await hook.aget_settings()
    assert "hlmr_sk_0000111122223333" not in str(redact("Bearer hlmr_sk_0000111122223333"))


def test_a_proxy_password_is_masked(connect: Callable[..., str]) -> None:
    proxy = "http://user:s3cr3t-proxy-word@proxy.example:3128"
    hook = HelmrHook(connect(host="https://helmr.example", password=KEY, extra={"proxy": proxy}))
    assert "s3cr3t-proxy-word" not in repr(hook.settings)
    assert "s3cr3t-proxy-word" not in str(redact(f"through {proxy}"))


def test_a_missing_connection_is_airflows_own_error() -> None:
    with pytest.raises(AirflowNotFoundException, match="helmr_nowhere"):
        _ = HelmrHook("helmr_nowhere").settings


async def test_a_bad_connection_says_all_that_is_wrong_both_ways(connect: Callable[..., str]) -> None:
    hook = HelmrHook(connect(extra={"streams": "x"}))
    for attempt in (hook.aget_settings, lambda: asyncio.to_thread(lambda: hook.settings)):
        with pytest.raises(HelmrConfigError, match=r"host is missing.*API key is missing.*streams"):
            await attempt()


def test_extras_that_mean_nothing_are_warned_of_by_name_only(
    connect: Callable[..., str], logged: Callable[[], str]
) -> None:
    hook = HelmrHook(connect(host="https://helmr.example", password=KEY, extra={"regoin": "eu-west-17"}))
    _ = hook.settings
    text = logged()
    assert "regoin" in text
    assert "eu-west-17" not in text


def test_older_airflow_gets_the_form_from_the_hook() -> None:
    pytest.importorskip("flask_appbuilder", reason="only Airflow 2 brings Flask-AppBuilder")
    widgets = HelmrHook.get_connection_form_widgets()
    assert set(widgets) == set(CONNECTION_FIELDS)
    assert widgets["streams"].field_class.__name__ == "IntegerField"
    assert widgets["verify"].field_class.__name__ == "StringField"


def test_older_airflow_gets_the_fields_behaviour_from_the_hook() -> None:
    behaviour = HelmrHook.get_ui_field_behaviour()
    assert behaviour["hidden_fields"] == FIELD_BEHAVIOUR["hidden-fields"]
    assert behaviour["relabeling"] == FIELD_BEHAVIOUR["relabeling"]
    assert behaviour["placeholders"] == FIELD_BEHAVIOUR["placeholders"]


def test_the_form_library_is_imported_only_for_the_form() -> None:
    program = """
import sys, helmr_provider.hooks.helmr
print([name for name in ("wtforms", "flask_appbuilder") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_namespace_of_the_client_outlives_hook_and_client(helmr_connection: str) -> None:
    token = HelmrHook(helmr_connection).client.tokens.create()
    assert token.retrieve().status == "pending"


@pytest.mark.parametrize("keep", ["view", "namespace of a view"])
def test_a_view_of_the_client_outlives_hook_and_client(helmr_connection: str, keep: str) -> None:
    view = HelmrHook(helmr_connection).client.scoped()
    kept: Any = view.tokens if keep == "namespace of a view" else view
    del view
    gc.collect()
    tokens = kept if keep == "namespace of a view" else kept.tokens
    assert tokens.create().status == "pending"


def test_the_connections_are_closed_when_no_view_uses_them_any_more(helmr_connection: str) -> None:
    view = HelmrHook(helmr_connection).client.scoped()
    view.tokens.create()
    [pool] = view._transport.http._pools.values()
    assert pool.connections
    del view
    gc.collect()
    assert not pool.connections
