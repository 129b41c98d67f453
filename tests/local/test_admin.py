"""The administration answers to programs of this machine, and to no web page that reaches it through one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.local.wire import Wire


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example:8080"},
        {"Host": "rebound.example"},
        {"Origin": "https://page.example"},
        {"Origin": "null"},
    ],
)
def test_a_page_of_another_origin_makes_no_key(headers: dict[str, str], wire: Wire) -> None:
    answer = wire.request("POST", "/_local/keys", {}, headers=headers)
    assert answer.status == 403
    assert "key" not in answer.json


@pytest.mark.parametrize(
    "headers", [{}, {"Host": "localhost:1"}, {"Host": "[::1]:1"}, {"Origin": "http://127.0.0.1:3000"}]
)
def test_a_program_of_this_machine_makes_one(headers: dict[str, str], wire: Wire) -> None:
    assert wire.request("POST", "/_local/keys", {}, headers=headers).status == 201
