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
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "[::1]evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost:1@evil.example"},
        {"Host": "2130706433"},
    ],
)
def test_a_page_of_another_origin_makes_no_key(headers: dict[str, str], wire: Wire) -> None:
    answer = wire.request("POST", "/_local/keys", {}, headers=headers)
    assert answer.status == 403
    assert "key" not in answer.json


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:1"},
        {"Host": "[::1]:1"},
        {"Host": "127.0.0.1:3000", "Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_a_program_of_this_machine_makes_one(headers: dict[str, str], wire: Wire) -> None:
    assert wire.request("POST", "/_local/keys", {}, headers=headers).status == 201


@pytest.mark.parametrize("path", ["keys", "faults", "clock/advance", "workspaces/pause"])
def test_a_large_body_is_refused_before_it_is_read_to_its_end(path: str, wire: Wire) -> None:
    answer = wire.request("POST", f"/_local/{path}", raw=b"x" * (1024 * 1024 + 1))
    assert answer.status == 400
    assert "larger than" in answer.text
