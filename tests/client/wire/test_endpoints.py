"""The endpoint table against the contract, and the form of paths and queries on the wire."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helmr_provider.client._wire.endpoints import ENDPOINTS, Endpoint
from tests.client.scripted_server import VARIANTS, Reply, ScriptedServer, drive
from tests.conftest import CONTRACT

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def ask(operation: str, path: dict[str, str], query: dict[str, str], client: Any) -> Any:
    return client._transport.call(operation, path=path, query=query)


def contract() -> dict[str, Endpoint]:
    """Write the table anew from the contract, but for what it does not say in a form that can be read."""
    document: dict[str, Any] = yaml.safe_load((CONTRACT / "openapi.yaml").read_text())
    parameters = document["components"]["parameters"]
    found: dict[str, Endpoint] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            named = [
                parameters[p["$ref"].split("/")[-1]] if "$ref" in p else p for p in operation.get("parameters", [])
            ]
            successes = [answer for status, answer in operation["responses"].items() if status in {"200", "201", "204"}]
            kinds = {kind for answer in successes for kind in answer.get("content", {})}
            security = operation.get("security")
            name = operation["operationId"]
            found[name] = Endpoint(
                name,
                method.upper(),
                path,
                tuple(p["name"] for p in named if p["in"] == "query"),
                sends="requestBody" in operation,
                reads="nothing" if not kinds else "bytes" if "application/octet-stream" in kinds else "json",
                scoped=operation.get("x-scoped", False),
                credential="client" if security is None else "public" if security else "none",
                repeat=ENDPOINTS[name].repeat,
                pending="202" in operation["responses"]
                or "idempotency_pending" in operation.get("x-error-codes", {}).get("500", []),
                follows="text/event-stream" in kinds,
            )
    return found


def test_the_table_is_the_contract() -> None:
    found = contract()
    assert found == ENDPOINTS


def test_what_may_be_repeated_is_what_a_server_serves_twice_without_harm() -> None:
    assert all(
        endpoint.repeat in {"always", "never", "external_id", "idempotency_key"} for endpoint in ENDPOINTS.values()
    )
    # A read with a public token uses it up; every other read is free.
    for endpoint in ENDPOINTS.values():
        if endpoint.method == "GET":
            assert (endpoint.repeat == "always") == (endpoint.credential != "public"), endpoint.operation
    start = ENDPOINTS["startSession"]
    assert start.repeatable({"external_id": "x"})
    assert not start.repeatable({"idempotency_key": "x"})
    for once in ("closeSession", "patchSession", "cancelToken", "deleteSchedule", "closeWorkspacePty"):
        assert not ENDPOINTS[once].repeatable({})


@given(TEXT, st.dictionaries(st.sampled_from(["status", "task_id", "external_id"]), TEXT))
def test_any_text_survives_path_and_query(part: str, query: dict[str, str]) -> None:
    assume(part.strip() and part not in {".", ".."})
    path = urlsplit(ENDPOINTS["getSession"].target({"session_id": part}, {})).path
    assert path.count("/") == 3
    assert unquote(path.rsplit("/", 1)[1]) == part
    target = ENDPOINTS["listSessions"].target({}, query)
    assert target.isascii()
    assert " " not in target
    assert dict(parse_qsl(urlsplit(target).query, keep_blank_values=True)) == query


@pytest.mark.parametrize("part", ["", " ", ".", ".."])
def test_a_path_part_that_would_change_the_path_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match="run_id"):
        ENDPOINTS["getRun"].target({"run_id": part}, {})


def test_unescaped_is_what_encode_uri_component_leaves() -> None:
    assert ENDPOINTS["getTask"].target({"task_id": "a-_.!~*'()/é "}, {}) == "/api/tasks/a-_.!~*'()%2F%C3%A9%20"


def test_the_scoped_form_replaces_the_beginning_and_only_where_there_is_one() -> None:
    scope = {"project_id": "p/1", "environment_id": "prod"}
    assert ENDPOINTS["countRuns"].target({}, {}, **scope) == "/api/projects/p%2F1/environments/prod/runs/counts"
    assert ENDPOINTS["healthz"].target({}, {}, **scope) == "/healthz"


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=15)
@given(part=TEXT, task=TEXT)
def test_the_http_library_leaves_path_and_query_as_they_are(variant: str, part: str, task: str) -> None:
    assume(part.strip() and part not in {".", ".."} and "\0" not in part + task)
    with ScriptedServer(Reply(404, json={"error": "no"})) as wire:
        for operation, path, query in (
            ("getSession", {"session_id": part}, {}),
            ("listSessions", {}, {"task_id": task, "external_id": part}),
        ):
            with pytest.raises(Exception, match="answered 404"):
                drive(
                    variant,
                    partial(ask, operation, path, query),
                    url=f"{wire.url}/pre%20fix",
                )
    targets = [request.target for request in wire.requests]
    assert targets == [
        "/pre%20fix" + ENDPOINTS["getSession"].target({"session_id": part}, {}),
        "/pre%20fix" + ENDPOINTS["listSessions"].target({}, {"task_id": task, "external_id": part}),
    ]


@pytest.mark.parametrize(("project", "environment", "named"), [(" ", "e", "project_id"), ("p", "..", "environment_id")])
def test_an_error_names_the_part_of_the_path_and_what_is_wrong_with_it(
    project: str, environment: str, named: str
) -> None:
    wrong = "blank" if project == " " else "'..'"
    with pytest.raises(ValueError, match=f"^{named} must not be {wrong}$"):
        ENDPOINTS["countRuns"].target({}, {}, project_id=project, environment_id=environment)


def test_what_is_always_or_never_repeated_does_not_depend_on_the_body() -> None:
    for body in (None, {}, {"never": 1, "always": 1}, ["always"]):
        assert ENDPOINTS["getRun"].repeatable(body)
        assert not ENDPOINTS["closeSession"].repeatable(body)
