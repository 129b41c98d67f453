"""Tokens (contract/behaviour.md section 11)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.refusals import refused
from tests.support.polling import until

if TYPE_CHECKING:
    from helmr_provider.client import HelmrClient
    from tests.conformance.conftest import Plane


def test_a_token_shows_its_secrets_once(plane: Plane, client: HelmrClient) -> None:
    key = plane.name()
    made = client.tokens.create(timeout="1h", idempotency_key=key, tags=["a"], metadata={"who": "dana"})
    assert made.callback_url
    assert made.public_access_token
    assert (made.status, made.tags, made.metadata) == ("pending", ("a",), {"who": "dana"})
    seen = client.tokens.retrieve(made.id)
    assert (seen.callback_url, seen.public_access_token) == (None, None)
    again = client.tokens.create(timeout="1h", idempotency_key=key, tags=["a"], metadata={"who": "dana"})
    assert (again.id, again.callback_url) == (made.id, made.callback_url)


def test_a_token_holds_seven_days_by_default(client: HelmrClient) -> None:
    made = client.tokens.create()
    assert made.timeout_at is not None
    assert abs(made.timeout_at - datetime.now(UTC) - timedelta(days=7)) < timedelta(minutes=10)


@pytest.mark.parametrize("data", [{"approved": True, "n": [1, None]}, None, False, "yes", 0])
def test_a_completion_holds_what_was_decided(client: HelmrClient, data: Any) -> None:
    made = client.tokens.create()
    done = client.tokens.complete(made.id, data)
    assert (done.status, done.token.status, done.token.data) == ("completed", "completed", data)
    assert client.tokens.retrieve(made.id).data == data
    assert client.tokens.complete(made.id, data).status == "already_completed"
    refused(409, "token_completion_conflict", lambda: client.tokens.complete(made.id, {"other": 1}))


def test_the_order_of_members_is_nothing_and_the_kind_of_number_is(client: HelmrClient) -> None:
    made = client.tokens.create()
    client.tokens.complete(made.id, {"a": 1, "b": 2})
    assert client.tokens.complete(made.id, {"b": 2, "a": 1}).status == "already_completed"
    refused(409, "token_completion_conflict", lambda: client.tokens.complete(made.id, {"a": 1.0, "b": 2}))


def test_a_cancelled_token_stays_cancelled(client: HelmrClient) -> None:
    made = client.tokens.create()
    assert client.tokens.cancel(made).status == "cancelled"
    refused(409, "token_cancelled", lambda: client.tokens.complete(made.id, 1))
    refused(409, "token_cancelled", lambda: client.tokens.cancel(made))


def test_a_completed_token_cannot_be_found_to_be_cancelled(client: HelmrClient) -> None:
    made = client.tokens.create()
    client.tokens.complete(made.id, 1)
    refused(404, "token_not_found", lambda: client.tokens.cancel(made))


def test_a_token_past_its_timeout_is_gone(plane: Plane, client: HelmrClient) -> None:
    made = client.tokens.create(timeout=timedelta(milliseconds=50))
    until(lambda: client.tokens.retrieve(made.id).status == "expired", every=0.05)
    refused(410, "token_expired", lambda: client.tokens.complete(made.id, 1))
    refused(410, "token_expired", lambda: client.tokens.cancel(made))


def test_its_public_token_completes_it_and_nothing_else(client: HelmrClient) -> None:
    made, other = client.tokens.create(), client.tokens.create()
    public = str(made.public_access_token)
    refused(403, "token_scope_denied", lambda: client.tokens.complete(other.id, 1, public_access_token=public))
    assert client.tokens.complete(made.id, {"ok": 1}, public_access_token=public).status == "completed"
    assert client.tokens.complete(made.id, {"ok": 1}, public_access_token=public).status == "already_completed"


def test_its_callback_url_needs_no_credential(client: HelmrClient) -> None:
    made = client.tokens.create()
    assert client.tokens.complete_callback(str(made.callback_url), {"ok": 1}).status == "completed"
    assert client.tokens.retrieve(made.id).data == {"ok": 1}


def test_tokens_are_listed_oldest_first_and_in_pages(client: HelmrClient) -> None:
    made = [client.tokens.create() for _ in range(3)]
    client.tokens.cancel(made[1])
    pending = [token.id for token in client.tokens.iter(status="pending", limit=2)]
    wanted = [made[0].id, made[2].id]
    assert [token for token in pending if token in {each.id for each in made}] == wanted
    page = client.tokens.list_page(status="pending", limit=1)
    assert (len(page.tokens), page.next_cursor) == (1, page.tokens[0].id)
