"""What is built at first use is built once, also if two threads come first at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from helmr_provider.client import HelmrClient, _default_client, default_client
from helmr_provider.client._internals import waiter_of

if TYPE_CHECKING:
    import pytest

LIMIT = 30.0


class _Announced:
    """A lock that announces a thread which has to wait for it.

    :param waiting: set before the thread waits.
    """

    def __init__(self, waiting: threading.Event) -> None:
        self._lock = threading.Lock()
        self._waiting = waiting

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._waiting.set()
            self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def test_two_threads_get_the_same_default_client(monkeypatch: pytest.MonkeyPatch) -> None:
    second_came, built = threading.Event(), list[object]()

    def build() -> object:
        built.append(client := object())
        if len(built) > 1:
            second_came.set()
        # Long enough for the second thread to come here, too, or to wait for the lock.
        assert second_came.wait(LIMIT)
        return client

    monkeypatch.setattr(_default_client, "_default", None)
    monkeypatch.setattr(_default_client, "_lock", _Announced(second_came))
    monkeypatch.setattr("helmr_provider.client._sync.client.HelmrClient", build)
    with ThreadPoolExecutor(2) as threads:
        clients = [each.result(LIMIT) for each in [threads.submit(default_client) for _ in range(2)]]
    assert clients == built * 2
    assert len(built) == 1


def test_two_threads_that_wait_with_one_client_share_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    both_build = threading.Barrier(2, timeout=LIMIT)

    def build(client: HelmrClient) -> Any:
        both_build.wait()
        return object()

    monkeypatch.setattr("helmr_provider.client._sync.client.build_waiter", build)
    client = HelmrClient(url="http://127.0.0.1:9", api_key="hlmr_sk_key")
    with ThreadPoolExecutor(2) as threads:
        first, second = (each.result(LIMIT) for each in [threads.submit(waiter_of, client) for _ in range(2)])
    assert first is second
    assert waiter_of(client) is first
