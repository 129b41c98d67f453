"""Times, durations, ids, retry policies and stored JSON, as Go and PostgreSQL have them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.local.common.clock import DAY, SECOND, parse_rfc3339, postgres_text, rfc3339
from helmr_provider.local.common.durations import parse_duration, token_timeout
from helmr_provider.local.common.errors import StorageRefusal
from helmr_provider.local.common.ids import derived_secret, is_uuid, uuid7
from helmr_provider.local.common.jsontext import as_doubles, dumps, fingerprint, jsonb, loads, plain
from helmr_provider.local.definitions.retry_policy import delay_ms, read_policy
from helmr_provider.local.testing.journal import without_secrets

STORABLE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
_INSTANTS = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(_INSTANTS)
def test_an_instant_is_read_back_as_written(moment: datetime) -> None:
    instant = parse_rfc3339(moment.isoformat())
    assert parse_rfc3339(rfc3339(instant)) == instant
    assert datetime.fromisoformat(rfc3339(instant)) == moment
    assert postgres_text(instant).endswith("+00:00")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-11-23T17:28:10Z", "2026-11-23T17:28:10Z"),
        ("2026-11-23T17:28:10.500Z", "2026-11-23T17:28:10.5Z"),
        ("2026-11-23T17:28:10.123456789Z", "2026-11-23T17:28:10.123456Z"),
        ("2026-11-23T17:28:10+02:00", "2026-11-23T15:28:10Z"),
        ("2026-11-23T17:28:10-05:30", "2026-11-23T22:58:10Z"),
    ],
)
def test_instants_are_written_in_utc_without_trailing_zeros(text: str, written: str) -> None:
    assert rfc3339(parse_rfc3339(text)) == written


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tomorrow", 'parsing time "tomorrow" as "2006-01-02T15:04:05Z07:00": cannot parse "tomorrow" as "2006"'),
        ("2026-11-23", 'parsing time "2026-11-23" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"'),
        ("2026-11-23T17:28:10", 'cannot parse "" as "Z07:00"'),
        ("2026-13-23T17:28:10Z", "month out of range"),
        ("9999-12-31T23:00:00-05:00", "year out of range"),
        ("2026-11-23T17:28:10Zzz", 'extra text: "zz"'),
    ],
)
def test_what_is_no_instant_is_refused_in_go_words(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="parsing time") as refused:
        parse_rfc3339(text)
    assert str(refused.value).endswith(complaint)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("90s", 90 * SECOND),
        ("1h30m", 5400 * SECOND),
        ("1.5h", 5400 * SECOND),
        (".5s", SECOND // 2),
        ("300ms", 300_000),
        ("5µs", 5),
        ("30d", 30 * DAY),
        ("0s", None),
        ("0d", None),
        ("-1h", None),
        ("1", None),
        ("", None),
        ("soon", None),
        ("2w", None),
        ("1d12h", None),
        ("1.5d", None),
        ("2147483648d", None),
        ("99999999999h", None),
    ],
)
def test_durations_are_read_as_go_reads_them(text: str, microseconds: int | None) -> None:
    assert parse_duration(text) == microseconds


@pytest.mark.parametrize(
    ("timeout", "microseconds"),
    [
        (90_000, 90 * SECOND),
        (0.5, 500),
        ({"minutes": 5, "seconds": 30}, 330 * SECOND),
        ({"duration": "1h"}, 3600 * SECOND),
    ],
)
def test_token_timeouts_have_four_forms(timeout: Any, microseconds: int) -> None:
    assert token_timeout(timeout) == microseconds


def test_ids_are_uuids_of_version_seven_that_sort_by_their_making() -> None:
    made = [uuid7(1_764_000_000_000_000) for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(is_uuid(text) and text[14] == "7" for text in made)


@pytest.mark.parametrize(
    "text", ["", "run_1", "01a20972364e75aea50debaecf02e71e", "{01a20972-364e-75ae-a50d-ebaecf02e71e}"]
)
def test_only_hyphenated_uuids_are_ids(text: str) -> None:
    assert not is_uuid(text)


def test_derived_secrets_differ_by_installation_purpose_and_name() -> None:
    secrets = {
        derived_secret(key, prefix, name)
        for key in (b"one", b"two")
        for prefix in ("hlmr_callback_", "hlmr_public_access_")
        for name in ("a", "b")
    }
    assert len(secrets) == 8
    assert all(len(secret.rpartition("_")[2]) <= 43 for secret in secrets)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("1e3", "1000"),
        ("1E+2", "100"),
        ("1.0", "1.0"),
        ("1.50e1", "15.0"),
        ("-0.0", "0.0"),
        ("-0", "0"),
        ("0.1", "0.1"),
        ("1e-7", "0.0000001"),
        ("-12.5e-3", "-0.0125"),
        ("9007199254740993", "9007199254740993"),
        ("18446744073709551617", "18446744073709551617"),
        ("0.1234567890123456789012", "0.1234567890123456789012"),
        ("1e300", "1" + "0" * 300),
        ("1e5000", "1" + "0" * 5000),
        ("0e900000", "0"),
    ],
)
def test_stored_numbers_keep_every_digit_and_have_no_exponent(written: str, stored: str) -> None:
    assert jsonb(loads(written)) == stored
    assert dumps({"n": loads(stored)}) == f'{{"n":{stored}}}'


@pytest.mark.parametrize("written", ["1e200000", "-1e200000", "1e-20000"])
def test_a_number_out_of_the_range_of_the_database_is_refused(written: str) -> None:
    with pytest.raises(StorageRefusal, match="value overflows numeric format"):
        jsonb([loads(written)])


@pytest.mark.parametrize("value", ["a\0b", {"a\0": 1}, ["\\\0"], [["\ud800"]]])
def test_characters_that_the_database_refuses_are_refused(value: object) -> None:
    with pytest.raises(StorageRefusal):
        jsonb(value)


def test_a_backslash_before_u0000_is_text() -> None:
    assert jsonb("a\\u0000b") == '"a\\\\u0000b"'


@pytest.mark.parametrize(
    ("written", "rounded"),
    [
        ("9007199254740993", "9007199254740992"),
        ("123456789012345678901234567890", "123456789012345680000000000000"),
        ("1.0", "1"),
        ("-0.0", "0"),
        ("1e-7", "0.0000001"),
        ("true", "true"),
    ],
)
def test_numbers_of_metadata_are_doubles(written: str, rounded: str) -> None:
    assert jsonb(as_doubles({"n": [loads(written)]})) == f'{{"n":[{rounded}]}}'


@pytest.mark.parametrize("written", ["1e400", "1" + "0" * 400])
def test_a_number_of_metadata_that_no_double_holds_is_refused(written: str) -> None:
    with pytest.raises(OverflowError, match=written[:3]):
        as_doubles([loads(written)])


def test_a_task_gets_numbers_of_python() -> None:
    assert plain(loads("[1e300, 0.12345678901234567890, 1e400, 7]")) == [1e300, 0.12345678901234568, float("inf"), 7]
    assert plain(loads("1" + "0" * 5000)) == float("inf")


def test_fingerprints_compare_numbers_by_their_text() -> None:
    texts = ["100", "1E2", "1e2", "100.0"]
    assert len({fingerprint(loads(text)) for text in texts}) == len(texts)
    assert fingerprint(loads("[1.10]")) == fingerprint(loads("[1.10]"))


def test_stored_json_has_the_shortest_names_first() -> None:
    assert jsonb({"bb": 1, "a": {"zz": 1, "y": 2}, "é": 3}) == '{"a":{"y":2,"zz":1},"bb":1,"é":3}'


@given(st.dictionaries(STORABLE, st.integers() | STORABLE, max_size=6), st.randoms())
def test_the_order_of_members_does_not_matter_to_a_fingerprint(members: dict[str, Any], order: Any) -> None:
    names = list(members)
    order.shuffle(names)
    assert fingerprint(members) == fingerprint({name: members[name] for name in names})
    assert json.loads(jsonb(members)) == members


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        (None, "retry must be an object"),
        ({}, "retry.maxAttempts must be an integer between 1 and 10"),
        ({"maxAttempts": 11}, "retry.maxAttempts must be an integer between 1 and 10"),
        ({"maxAttempts": True}, "retry.maxAttempts must be an integer between 1 and 10"),
        ({"maxAttempts": 2, "backoff": {"minMs": 0}}, "retry.backoff.minMs must be a positive integer"),
        ({"maxAttempts": 2, "backoff": {"jitter": "some"}}, "retry.backoff.jitter must be none or full"),
        ({"maxAttempts": 2, "backoff": {"factor": 0}}, "retry.backoff.factor must be a positive number"),
    ],
)
def test_policies_that_are_none_are_refused(policy: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"retry") as refused:
        read_policy(policy)
    assert str(refused.value) == complaint


def test_a_disabled_policy_and_the_last_attempt_have_no_delay() -> None:
    assert delay_ms(read_policy({"enabled": False}), 1) is None
    assert delay_ms(read_policy({"maxAttempts": 2}), 2) is None


@given(st.integers(1, 9), st.integers(1, 5000), st.integers(1, 5000), st.sampled_from(["none", "full"]))
def test_a_delay_stays_between_nothing_and_the_most_allowed(attempt: int, low: int, high: int, jitter: str) -> None:
    backoff = {"minMs": low, "maxMs": high, "factor": 2, "jitter": jitter}
    delay = delay_ms(read_policy({"maxAttempts": 10, "backoff": backoff}), attempt)
    assert delay is not None
    assert 0 <= delay <= high


def test_secrets_are_replaced_wherever_they_stand() -> None:
    secret = "hlmr_public_access_" + "x" * 43
    assert without_secrets({secret: [f"see {secret}!", 1, None]}) == {"<secret>": ["see <secret>!", 1, None]}
