"""Idempotency keys: a public format that never changes (contract/behaviour.md section 3.2)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.client import IdempotencyKey, idempotency_key
from helmr_provider.client._idempotency import session_key_value

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("parts", "value"),
    [
        (("case-123",), "2aa9516e92b61321adb8d263904b8209e97137e0b022c770c6c174c17614fb82"),
        (("deploy", "prod"), "95b77c3d93afd628f34d412018f1e6a38c81a3beebdf3e2b1f7851bb7edfcf66"),
        (("réf-1",), "fee47f0803b6b33cf37ce0b471d1583202451dcc3a98b309facfc55cf043ad84"),
    ],
)
def test_the_worked_examples_of_the_contract(parts: tuple[str, ...], value: str) -> None:
    assert idempotency_key(*parts) == IdempotencyKey(value, parts)


@given(st.lists(TEXT, min_size=1))
def test_text_list_and_ready_key_are_one_key(parts: list[str]) -> None:
    key = idempotency_key(*parts)
    assert session_key_value(parts) == session_key_value(key) == key.value
    if len(parts) == 1:
        assert session_key_value(parts[0]) == key.value
    text = '{"scope":"global","key":' + json.dumps(parts, separators=(",", ":"), ensure_ascii=False) + "}"
    assert key.value == hashlib.sha256(text.encode()).hexdigest()


@given(st.lists(TEXT, min_size=1), st.lists(TEXT, min_size=1))
def test_different_parts_are_different_keys(one: list[str], other: list[str]) -> None:
    assert (idempotency_key(*one).value == idempotency_key(*other).value) == (one == other)


@pytest.mark.parametrize("parts", [(), (1,), (None,), ("a", 2)])
def test_a_key_has_parts_and_they_are_text(parts: tuple[Any, ...]) -> None:
    with pytest.raises((ValueError, TypeError), match="idempotency key"):
        idempotency_key(*parts)
