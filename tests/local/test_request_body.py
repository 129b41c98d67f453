"""Request bodies are decoded, and refused with the control plane's errors for fields."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider.local.api.request_body import (
    Struct,
    boolean,
    instant,
    int32,
    raw,
    string,
    strings,
)
from helmr_provider.local.common.json_bodies import DecodeError, parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
THING = Struct(
    "api.Thing",
    {
        "text": string,
        "flag": boolean,
        "count": int32,
        "tags": strings,
        "any": raw,
        "when": instant,
    },
)


@pytest.mark.parametrize(
    "text", ["", " \n", "{", '{"a"', "nope", "[1,]", '{"a":1,}', '{"a" 1}', "[1 2]", "'a'", '"\n"', "-a", "NaN"]
)
def test_malformed_json_is_refused_in_words(text: str) -> None:
    with pytest.raises(DecodeError, match="malformed JSON: "):
        parse(text.encode())


@pytest.mark.parametrize("text", ["{} {}", "01", "1.a"])
def test_a_second_value_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match="request body must contain a single JSON value"):
        parse(text.encode())


def test_nesting_without_end_is_refused_and_nothing_worse() -> None:
    with pytest.raises(DecodeError, match="nested too deeply"):
        parse(b"[" * 200_000)


@given(JSON)
def test_json_comes_back_as_it_was(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        json.loads(text)
        valid = "NaN" not in text and "Infinity" not in text
    except ValueError:
        valid = False
    if valid:
        parse(text.encode())
        return
    with pytest.raises(DecodeError):
        parse(text.encode())


def test_what_utf8_cannot_carry_is_replaced_as_go_does() -> None:
    assert THING.read(parse(b'{"text": "a\\ud800b", "tags": ["\\ud800"]}')) == {"text": "a\ufffdb", "tags": ["\ufffd"]}
    assert parse(b'"a\xffb"') == "a\ufffdb"
    assert parse(b'["\\ud83d\\ude00"]') == ["\U0001f600"]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"nope": 1}, 'json: unknown field "nope"'),
        ([1], "json: cannot unmarshal array into Go value of type api.Thing"),
        ("x", "json: cannot unmarshal string into Go value of type api.Thing"),
        ({"text": 1}, "json: cannot unmarshal number 1 into Go struct field Thing.text of type string"),
        ({"flag": "yes"}, "json: cannot unmarshal string into Go struct field Thing.flag of type bool"),
        ({"count": True}, "json: cannot unmarshal bool into Go struct field Thing.count of type int32"),
        ({"count": 2**31}, f"json: cannot unmarshal number {2**31} into Go struct field Thing.count of type int32"),
        ({"count": 1.5}, "json: cannot unmarshal number 1.5 into Go struct field Thing.count of type int32"),
        ({"tags": {}}, "json: cannot unmarshal object into Go struct field Thing.tags of type []string"),
        ({"tags": [1]}, "json: cannot unmarshal number 1 into Go struct field Thing.tags of type string"),
        ({"when": 1}, "Time.UnmarshalJSON: input is not a JSON string"),
    ],
)
def test_a_member_of_another_type_is_refused(body: Any, complaint: str) -> None:
    with pytest.raises(DecodeError) as refused:
        THING.read(body)
    assert str(refused.value) == complaint


def test_null_leaves_members_unset_and_names_match_in_any_case() -> None:
    assert THING.read(None) == {}
    members = dict.fromkeys(["text", "flag", "count", "tags", "any", "when"])
    assert THING.read(members) == members
    assert THING.read({"TEXT": "a", "Count": 3}) == {"text": "a", "count": 3}
