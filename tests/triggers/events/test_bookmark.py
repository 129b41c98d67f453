"""Where cursors are kept: what Airflow shows of a trigger's assets."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from helmr_provider.triggers.events._subscriptions import Bookmark


def test_airflow_shows_the_accessors_of_a_triggers_assets(caplog: pytest.LogCaptureFixture) -> None:
    context = pytest.importorskip("airflow.sdk.execution_time.context")
    if not hasattr(context, "AssetStateStoreAccessors"):
        pytest.skip("this version of Airflow stores no state of assets")
    from airflow.sdk import Asset
    from airflow.sdk.definitions.asset import AssetUriRef

    store = context.AssetStateStoreAccessors(inlets=[Asset("by name", uri="x://y"), AssetUriRef("x://z")])
    bookmark = Bookmark(store, "cursor")
    is_asynchronous = hasattr(context.AssetStateStoreAccessor, "aset")
    assert len(bookmark._accessors) == (2 if is_asynchronous else 0)
    assert caplog.records == []


def test_a_store_of_another_shape_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert Bookmark(object(), "cursor")._accessors == []
    assert "no cursor is stored" in caplog.text


def test_an_airflow_without_a_store_is_not_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    nothing: Any = None
    assert Bookmark(nothing, "cursor")._accessors == []
    assert caplog.records == []
