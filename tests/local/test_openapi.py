"""Whatever is asked of the local control plane, its answer is one of those that the contract describes.

Requests are generated from the contract's `openapi.yaml`, one operation at a time; where the contract names an id, most
name a record that exists. No answer may be a 500 but those that the real server gives too (contract/behaviour.md §21).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from helmr_provider.local import LocalControlPlane, Settings, task
from tests.conftest import CONTRACT
from tests.support.local.known_values import KnownValues

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helmr_provider.local import TaskContext

DESCRIPTION = CONTRACT / "openapi.yaml"


BRIEF = Settings(start_and_wait=0.02, keep_alive=0.02, log_poll=0.02, stream_limit=0.05)
EXAMPLES = 15

CHECKED = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

# The 500s that the real server gives as well: by operation, how their texts begin.
PLANNED_FAILURES = {
    "startSession": ["start task"],
    "startSessionAndWait": ["start task"],
    "createWorkspace": ["create workspace"],
    "stopWorkspace": ["stop workspace"],
    "listWorkspaceFiles": ["list workspace files"],
    "readWorkspaceFile": ["read workspace file"],
    "statWorkspaceFile": ["stat workspace file"],
    "createWorkspaceExec": ["idempotency_fingerprint_mismatch"],
    "createWorkspacePty": ["idempotency_fingerprint_mismatch"],
    "closeWorkspacePty": ["close workspace pty"],
    "createSchedule": ["create schedule"],
    "updateSchedule": ["update schedule"],
}


def operations() -> dict[str, Any]:
    if not DESCRIPTION.exists():
        return {}
    described = schemathesis.openapi.from_path(DESCRIPTION)
    found: list[Any] = [result.ok() for result in described.get_all_operations()]  # type: ignore[union-attr]
    return {operation.definition.raw["operationId"]: operation for operation in found}


def frames() -> dict[str, Any]:
    if not DESCRIPTION.exists():
        return {}
    components = yaml.safe_load(DESCRIPTION.read_text())["components"]
    names = {
        "run_event": "RunEvent",
        "deployment_event": "RunEvent",
        "run_log": "RunLogChunk",
        "workspace_stream_chunk": "StreamChunk",
        "workspace_stream_terminal": "StreamTerminal",
        "workspace_stream_lost": "StreamTerminal",
    }
    return {
        event: jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{schema}", "components": components})
        for event, schema in names.items()
    }


OPERATIONS = operations()
FRAMES = frames()


@task("chat", inputs=("messages",), outputs=("progress",))
async def chat(_: TaskContext, payload: Any) -> Any:
    return payload


@pytest.fixture(scope="module")
def plane() -> Iterator[LocalControlPlane]:
    with LocalControlPlane([chat], settings=BRIEF) as server:
        server.pause_worker()
        # Generated commands must never run: nothing begins in a workspace here.
        server.pause_workspaces()
        yield server


@pytest.fixture
def known(plane: LocalControlPlane, request: pytest.FixtureRequest) -> Iterator[KnownValues]:
    values = KnownValues(plane, request.node.name)
    yield values
    values.close()


@st.composite
def requests(draw: st.DrawFn, operation: Any, known: KnownValues) -> Any:
    """A request as the contract describes it, or slightly wrong, with ids of what exists in most places."""
    mode = draw(st.sampled_from(list(schemathesis.GenerationMode)))
    case = draw(operation.as_strategy(generation_mode=mode))
    # The first known values fit together; the others name finished or missing resources.
    fitting = draw(st.booleans())
    if fitting:
        case.headers.pop("Helmr-API-Version", None)
    for part in (case.path_parameters, case.query, case.body):
        _name_what_exists(draw, part, known, fitting=fitting)
    return case


def _name_what_exists(draw: st.DrawFn, part: Any, known: KnownValues, *, fitting: bool) -> None:
    if not isinstance(part, dict):
        return
    for member, value in list(part.items()):
        values = known.named(member)
        if values and fitting:
            part[member] = values[0]
        elif fitting and member in ("project_id", "environment_id"):
            # Refused with an API key, whatever they say.
            del part[member]
        elif fitting and isinstance(value, float) and value.is_integer():
            # 900.0 is an integer to JSON Schema and none to Go.
            part[member] = int(value)
        elif values and draw(st.integers(0, 3)) > 0:
            part[member] = draw(st.sampled_from(values))
        else:
            _name_what_exists(draw, value, known, fitting=fitting)


def assert_frames_fit(text: str) -> None:
    """The contract says of a stream's frames in words which schema their data has."""
    for frame in text.split("\n\n"):
        lines = dict(line.partition(": ")[::2] for line in frame.splitlines())
        if "data" in lines:
            FRAMES[lines["event"]].validate(json.loads(lines["data"]))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_answer_is_one_that_the_contract_describes(
    name: str, plane: LocalControlPlane, known: KnownValues
) -> None:
    operation = OPERATIONS[name]
    credentials = known.credentials(operation.path)
    seen: set[int] = set()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=requests(operation, known), credential=st.sampled_from(credentials))
    def check(case: Any, credential: str) -> None:
        answer = case.call(base_url=plane.url, headers={"Authorization": f"Bearer {credential}"}, timeout=20)
        seen.add(answer.status_code)
        if answer.status_code == 500:
            text = answer.json()["error"]
            assert any(text.startswith(planned) for planned in PLANNED_FAILURES.get(name, ())), text
        if answer.headers.get("content-type") == ["text/event-stream"]:
            assert_frames_fit(answer.text)
        else:
            case.validate_response(answer, checks=CHECKED)

    check()
    # Else the requests were refused before anything looked at them.
    assert set(seen) - {401, 405}
