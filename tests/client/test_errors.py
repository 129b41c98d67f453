"""Errors: what they say, and what they survive."""

from __future__ import annotations

import pickle

import pytest

from helmr_provider.client import (
    HelmrApiError,
    HelmrAuthError,
    HelmrConfigError,
    HelmrConflictError,
    HelmrConnectionError,
    HelmrError,
    HelmrProtocolError,
    HelmrTimeoutError,
    PayloadValidationError,
    WorkspaceStreamError,
    WorkspaceStreamTerminalError,
)
from helmr_provider.client._secrets import Secret, hide, scrub

ERRORS = [
    HelmrConfigError("a"),
    HelmrConnectionError("a", operation="getRun", delivered=False),
    HelmrTimeoutError("a", pending=("r",)),
    HelmrProtocolError("a", operation="getRun", cursor="1", raw="x", oversize=True),
    HelmrConflictError("a", operation="startSession", status=409, code="session_terminal", body={"error": "a"}),
    HelmrApiError("a", status=503, retry_after=1.5),
    PayloadValidationError("a", issues=({"loc": ("x",)},)),
    WorkspaceStreamError("a", code="c", cursor=4),
    WorkspaceStreamTerminalError("a", terminal={"state": "lost"}),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_crosses_a_process_boundary_whole(error: HelmrError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert isinstance(again, HelmrError)


def test_errors_are_also_what_python_calls_them() -> None:
    assert isinstance(HelmrTimeoutError("late"), TimeoutError)
    assert isinstance(HelmrConfigError("bad"), ValueError)
    assert isinstance(PayloadValidationError("bad"), ValueError)


@pytest.mark.parametrize(
    ("error", "text", "advice"),
    [
        (
            HelmrConflictError("session is closed", operation="startSession", status=409, code="session_terminal"),
            "startSession was answered 409: session_terminal: session is closed.",
            " The session is over; use another external id to start a new one.",
        ),
        (
            HelmrConflictError("task_not_deployed", operation="startSession", status=409, code="task_not_deployed"),
            "startSession was answered 409: task_not_deployed.",
            " Check the task id, or deploy the task to this environment.",
        ),
        (
            HelmrAuthError("unauthorized", operation="getRun", status=401),
            "getRun was answered 401: unauthorized.",
            " Check the API key (HELMR_API_KEY) and that it belongs to this control plane.",
        ),
        (
            HelmrApiError("limit must be between 1 and 200.", operation="listRuns", status=400),
            "listRuns was answered 400: limit must be between 1 and 200.",
            "",
        ),
    ],
)
def test_the_text_says_what_happened_to_what_and_what_to_do(error: HelmrApiError, text: str, advice: str) -> None:
    assert str(error) == text + advice


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (400, False),
        (401, False),
        (404, False),
        (408, True),
        (409, False),
        (429, True),
        (500, True),
        (501, False),
        (503, True),
    ],
)
def test_what_may_succeed_later(status: int, retryable: bool) -> None:
    assert HelmrApiError("x", status=status).retryable is retryable


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {vars(Secret)}"
    assert (secret.reveal(), hide(secret), secret) == ("hunter2", secret, Secret("hunter2"))
    assert secret not in {Secret("other"), "hunter2"}
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


def test_credentials_in_foreign_text_are_blanked() -> None:
    text = "no hlmr_sk_abc-DEF_1, /callback/hlmr_callback_x?y hlmr_pat_1 hlmr_public_access_z."
    assert scrub(text) == "no hlmr_sk_***, /callback/hlmr_callback_***?y hlmr_pat_*** hlmr_public_access_***."


@pytest.mark.parametrize(
    ("code", "cause"),
    [("workspace_not_active", "needs recovery"), ("token_expired", "the requested expiry is not in the future")],
)
def test_a_hint_names_every_cause_that_a_code_can_have(code: str, cause: str) -> None:
    assert cause in str(HelmrApiError("refused", operation="connectWorkspace", status=409, code=code))
