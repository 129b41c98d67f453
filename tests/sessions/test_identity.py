"""Names and ownership of sessions: a public format."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider._common.errors import IdentityError
from helmr_provider._sessions.epoch import epoch_of
from helmr_provider._sessions.identity import (
    Identity,
    OwnershipMetadata,
    owner_of,
    ownership_member,
    refuse_reserved,
)


def identity(**members: Any) -> Identity:
    return Identity(**{"prefix": "airflow", "dag_id": "d", "run_id": "r", "task_id": "t", **members})


# Names are stored in control planes for ever. A release that changes one of these lines starts every session twice.
GOLDEN = {
    identity(dag_id="nightly", run_id="manual__2026-11-23T17:28:10+00:00", task_id="group.summary"): {
        1: "airflow:nightly:manual__2026-11-23T17:28:10+00:00:group.summary:-1:1",
        12: "airflow:nightly:manual__2026-11-23T17:28:10+00:00:group.summary:-1:12",
    },
    identity(prefix="team-b", map_index=7): {3: "team-b:d:r:t:7:3"},
    identity(run_id="x" * 600): {
        1: f"airflow:d:{'x' * 430}~d780c138c8b4ecf1989530d7cb1ea158:1",
        10: f"airflow:d:{'x' * 430}~d780c138c8b4ecf1989530d7cb1ea158:10",
    },
    identity(dag_id="dd", run_id="é" * 300): {1: f"airflow:dd:{'é' * 214}~9c0bd2d90db150be0447814b259786f6:1"},
}


@pytest.mark.parametrize(("who", "names"), GOLDEN.items(), ids=["short", "mapped", "long", "unicode"])
def test_names_never_change(who: Identity, names: dict[int, str]) -> None:
    assert {generation: who.external_id(generation) for generation in names} == names


EPOCH = "2026-11-23T17:28:11.123456+00:00/1"
# Stored with the input records: another key in a retry sends the record twice.
GOLDEN_INPUT_KEYS = {
    identity(dag_id="nightly", run_id="manual__2026-11-23T17:28:10+00:00", task_id="group.ask"): (
        "airflow:nightly:manual__2026-11-23T17:28:10+00:00:group.ask:-1:2026-11-23T17:28:11.123456+00:00/1"
    ),
    identity(prefix="team-b", map_index=7): "team-b:d:r:t:7:2026-11-23T17:28:11.123456+00:00/1",
    identity(run_id="x" * 600): (
        f"airflow:d:{'x' * 430}~d780c138c8b4ecf1989530d7cb1ea158:2026-11-23T17:28:11.123456+00:00/1"
    ),
}


@pytest.mark.parametrize(("who", "key"), GOLDEN_INPUT_KEYS.items(), ids=["short", "mapped", "long"])
def test_input_keys_never_change_and_fit(who: Identity, key: str) -> None:
    assert who.input_key(EPOCH) == key
    assert len(who.input_key("2026-11-23T17:28:11.123456+00:00/99999").encode()) <= 512


def test_a_name_of_exactly_512_bytes_is_written_out_and_one_more_is_not() -> None:
    room = 512 - len(identity(run_id="").external_id(1))
    assert identity(run_id="x" * room).external_id(1) == f"airflow:d:{'x' * room}:t:-1:1"
    assert "~" in identity(run_id="x" * (room + 1)).external_id(1)
    assert "~" in identity(run_id="x" * room).external_id(10)


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300)
ids = st.from_regex(r"[a-zA-Z0-9_.\-]{1,120}", fullmatch=True)
identities = st.builds(
    Identity, prefix=ids, dag_id=ids, run_id=words, task_id=ids, map_index=st.integers(min_value=-1, max_value=5000)
)


@given(identities, st.integers(min_value=1, max_value=10**6))
def test_every_name_fits_and_ends_in_its_generation(who: Identity, generation: int) -> None:
    name = who.external_id(generation)
    assert len(name.encode()) <= 512
    assert name.endswith(f":{generation}")


@given(identities, identities, st.integers(min_value=1, max_value=40), st.integers(min_value=1, max_value=40))
def test_different_sessions_have_different_names(one: Identity, other: Identity, first: int, second: int) -> None:
    assert (one.external_id(first) == other.external_id(second)) == ((one, first) == (other, second))


def task_instance(**members: Any) -> Any:
    return SimpleNamespace(
        **{"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "try_number": 2, "max_tries": 3, **members}
    )


def test_on_airflow_3_the_owner_is_the_try_s_own_id() -> None:
    assert owner_of(task_instance(id="0193-uuid")) == "0193-uuid"


def test_on_airflow_2_the_owner_is_the_full_key_of_the_try() -> None:
    assert owner_of(task_instance(map_index=4)) == "d/r/t/4/2"


def test_an_epoch_ends_with_a_clear_and_not_with_a_retry() -> None:
    started = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)
    assert epoch_of(started, 3) == "2026-11-23T17:00:00+00:00/3"
    assert epoch_of(started.astimezone(timezone(timedelta(hours=2))), 3) == epoch_of(started, 3)
    assert epoch_of(started, 4) != epoch_of(started, 3)
    assert epoch_of(started + timedelta(seconds=1), 3) != epoch_of(started, 3)
    assert epoch_of(None, 0) == "/0"


def test_a_stamp_has_the_members_that_others_read() -> None:
    stamp = OwnershipMetadata.of(
        task_instance(id="ti", log_url="https://airflow.example/x"),
        SimpleNamespace(start_date=datetime(2026, 11, 23, tzinfo=UTC)),
    )
    assert stamp.onto({"ticket": 7, "airflow": {"v": 1, "owner": "somebody"}}) == {
        "ticket": 7,
        "airflow": {
            "v": 1,
            "owner": "ti",
            "epoch": "2026-11-23T00:00:00+00:00/3",
            "dag_id": "d",
            "run_id": "r",
            "task_id": "t",
            "map_index": -1,
            "try_number": 2,
            "url": "https://airflow.example/x",
        },
    }


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.integers())))
def test_a_stamp_leaves_everything_else_as_it_was(metadata: dict[str, Any]) -> None:
    stamp = OwnershipMetadata.of(task_instance(id="ti"), None)
    before = json.dumps(metadata)
    written = stamp.onto(metadata)
    assert ownership_member(written, "owner") == "ti"
    assert {**written, "airflow": None} == {**metadata, "airflow": None}
    assert json.dumps(metadata) == before


@pytest.mark.parametrize("metadata", [None, {}, {"airflow": None}, {"airflow": "text"}, {"airflow": {"owner": 7}}])
def test_what_is_not_one_of_our_stamps_has_no_owner(metadata: Any) -> None:
    assert ownership_member(metadata, "owner") is None


def test_an_author_s_metadata_may_not_have_the_stamp_s_member() -> None:
    with pytest.raises(IdentityError, match="'airflow'") as refused:
        refuse_reserved({"airflow": {}})
    assert refused.value.permanent
    refuse_reserved({"Airflow": 1})
    refuse_reserved(None)


def test_a_stamp_of_all_tries_names_the_task_instance_between_two_clears() -> None:
    def stamp(try_number: int, max_tries: int) -> dict[str, Any]:
        ti = SimpleNamespace(
            id=f"try-{try_number}",
            dag_id="d",
            run_id="r",
            task_id="t",
            map_index=-1,
            try_number=try_number,
            max_tries=max_tries,
            log_url=f"https://airflow.example/dags/d/runs/r/tasks/t?try_number={try_number}",
        )
        of = OwnershipMetadata.of(ti, SimpleNamespace(start_date=datetime(2026, 11, 23, 12, tzinfo=UTC)))
        return dict(of.of_all_tries("airflow")["airflow"])

    first = stamp(1, 1)
    assert first["url"] == "https://airflow.example/dags/d/runs/r/tasks/t"
    assert first["prefix"] == "airflow"
    assert stamp(2, 1) == first
    assert stamp(3, 4)["owner"] != first["owner"]
