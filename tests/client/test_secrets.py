"""Credentials are removed from texts while other threads make clients."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from helmr_provider.client._secrets import Secret, scrub


def test_texts_are_scrubbed_while_another_thread_makes_secrets() -> None:
    held = [Secret(f"held-secret-{number}") for number in range(50)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            making = threads.submit(lambda: [Secret(f"made-secret-{number}") for number in range(20_000)])
            texts = {scrub("says held-secret-7") for _ in range(500)}
            assert len(making.result()) == 20_000
    finally:
        sys.setswitchinterval(interval)
    assert texts == {"says ***"}
    assert len(held) == 50
