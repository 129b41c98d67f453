"""What can go wrong between a program and a Helmr control plane.

Every text says what happened, to which operation, and what to do next; none holds a credential or a callback URL.
The attributes survive pickling, so that an error may cross a process boundary.
"""

from __future__ import annotations

from typing import Any

from helmr_provider.client._secrets import scrub, scrub_value

# Advice for the codes that a caller can act upon (contract/behaviour.md §2); a code without a line speaks for itself.
_ADVICE = {
    "task_not_deployed": "Check the task id, or deploy the task to this environment.",
    "task_archived": "Deploy the task again, or start another one.",
    "session_fingerprint_mismatch": "A session with this external id was started with other options; "
    "look it up, or use another external id.",
    "session_terminal": "The session is over; use another external id to start a new one.",
    "close_run_active": "A run is live or owed; wait for it, or cancel the session.",
    "idempotency_fingerprint_mismatch": "The idempotency key was used with other options; use another key.",
    "idempotency_pending": "An equal request is still being served; try again later.",
    "token_completion_conflict": "The token was completed with other data; retrieve it to see them.",
    "token_cancelled": "The token was cancelled; create a new one.",
    "token_expired": "The token is past its timeout, or the requested expiry is not in the future.",
    "token_scope_denied": "The public access token does not allow this.",
    "session_expires_at_not_extendable": "Only an expiry that lies ahead can be moved, and only further out.",
    "stream_not_found": "Check the name and the direction; the deployed task must declare the stream. A public "
    "access token finds a stream only after a key has used or listed it.",
    "sandbox_not_deployed": "Check the sandbox id, or deploy the sandbox to this environment.",
    "workspace_writer_active": "A run, command or terminal writes to the workspace; wait for its end, or stop the "
    "workspace.",
    "workspace_not_active": "The workspace is archived or needs recovery; create a new one.",
    "workspace_no_current_version": "Nothing has been captured yet; stop the workspace to capture it.",
    "workspace_pty_not_open": "Wait until it is open (wait_until_open), unless it is closing.",
    "workspace_source_live_unsupported": "Stop the workspace to capture its files, then read the current version.",
    "workspace_stream_offset_conflict": "Write at the end: retrieve the exec or pty for its cursor.",
    "workspace_stream_cursor_expired": "Only the newest output is kept; follow it without a cursor.",
    "coordination_unavailable": "A dependency of the control plane is down; try again later.",
}


class HelmrError(Exception):
    """Base of everything this client raises on its own account.

    Credentials are removed from every text when the error is created, because texts come from servers that may echo
    the request.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*map(scrub_value, args))


class HelmrConfigError(HelmrError, ValueError):
    """The options of the client do not fit (contract/behaviour.md section 16)."""


class PayloadValidationError(HelmrError, ValueError):
    """A value does not fit the type that the caller gave, or is not JSON.

    An invalid value is refused before any request; an invalid answer is refused when it is read.

    :param message: what does not fit.
    :param issues: one entry for each violation, as pydantic describes them, without the values.
    """

    def __init__(self, message: str, *, issues: tuple[dict[str, Any], ...] = ()) -> None:
        super().__init__(message)
        self.issues = issues


class HelmrConnectionError(HelmrError):
    """The control plane was not reached, or the exchange broke off. This says nothing about the run itself.

    :param message: what happened.
    :param operation: operationId of the request.
    :param delivered: false when the request certainly never reached the server, so that any request may be repeated.
    """

    def __init__(self, message: str, *, operation: str = "", delivered: bool = True) -> None:
        super().__init__(message)
        self.operation = operation
        self.delivered = delivered


class HelmrTimeoutError(HelmrError, TimeoutError):
    """A wait reached the deadline its caller had set. The run or token continues.

    :param message: the awaited resource, and the limit.
    :param pending: ids that had not ended.
    """

    def __init__(self, message: str, *, pending: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.pending = pending


class HelmrCallTimeoutError(HelmrConnectionError, HelmrTimeoutError):
    """One call did not end within the client's ``timeout``, or no connection was made within ``connect_timeout``.

    It is a :class:`HelmrConnectionError`, because it says nothing about the run itself.
    """


class HelmrProtocolError(HelmrError):
    """The answer does not follow the contract.

    :param message: what does not fit.
    :param operation: operationId of the request.
    :param cursor: where a stream can continue behind the bad frame, if known.
    :param raw: the text that does not fit, cut to a readable size.
    :param oversize: true when an event exceeded the size limit.
    """

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        cursor: str | None = None,
        raw: str | None = None,
        oversize: bool = False,
    ) -> None:
        super().__init__(message)
        self.operation = operation
        self.cursor = cursor
        self.raw = None if raw is None else scrub(raw)
        self.oversize = oversize


class HelmrApiError(HelmrError):
    """The control plane answered that it will not do this (contract/behaviour.md section 2).

    :param message: the server's text.
    :param operation: operationId of the request.
    :param status: HTTP status.
    :param code: stable machine code; absent for validation errors, missing scopes and most 404s.
    :param body: the parsed JSON body, else the text, cut to a readable size.
    :param retry_after: seconds the server asked to wait, at most 300.
    :param credential: where the refused credential comes from, such as ``HELMR_API_KEY``.
    """

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        status: int = 0,
        code: str | None = None,
        body: Any = None,
        retry_after: float | None = None,
        credential: str = "",
    ) -> None:
        super().__init__(message)
        self.message = scrub(message)
        self.operation = operation
        self.status = status
        self.code = None if code is None else scrub(code)
        self.body = scrub_value(body)
        self.retry_after = retry_after
        self.credential = credential

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later: 408, 429 and 5xx, but not 501 and not a spent key."""
        if self.code == "idempotency_fingerprint_mismatch":
            return False
        return self.status in {408, 429} or (self.status >= 500 and self.status != 501)

    @property
    def advice(self) -> str:
        """What to do next."""
        return _ADVICE.get(self.code or "", "")

    def __str__(self) -> str:
        reason = f"{self.code}: {self.message}" if self.code and self.code != self.message else self.message
        text = f"{self.operation} was answered {self.status}: {reason.rstrip('.')}."
        return f"{text} {self.advice}" if self.advice else text

    def __repr__(self) -> str:
        facts = f"status={self.status}, code={self.code!r}, operation={self.operation!r}"
        return f"{type(self).__name__}({self.message!r}, {facts})"


class HelmrAuthError(HelmrApiError):
    """401: the credential is missing, unknown, or of the wrong kind for this path."""

    @property
    def advice(self) -> str:
        """What to do next."""
        where = self.credential or "HELMR_API_KEY"
        return super().advice or f"Check the API key ({where}) and that it belongs to this control plane."


class HelmrPermissionError(HelmrApiError):
    """403: the credential lacks the scope."""

    @property
    def advice(self) -> str:
        """What to do next."""
        return super().advice or "Use an API key that has the scope for this operation."


class HelmrNotFoundError(HelmrApiError):
    """404: there is no such record in the environment of this credential."""


class HelmrConflictError(HelmrApiError):
    """409: the state, or an earlier request with the same identity, forbids it; of exec and pty the latter is a 500."""


class HelmrGoneError(HelmrApiError):
    """410: it expired."""


class WorkspaceStreamError(HelmrError):
    """The server ended an exec or pty stream with an error frame (contract/behaviour.md section 14).

    :param message: the server's text.
    :param code: machine code of the frame.
    :param cursor: byte offset to continue from, if known.
    """

    def __init__(self, message: str, *, code: str | None = None, cursor: int | None = None) -> None:
        super().__init__(message)
        self.code = None if code is None else scrub(code)
        self.cursor = cursor


class WorkspaceStreamTerminalError(HelmrError):
    """An exec or pty ended as lost or failed while it was followed (contract/behaviour.md section 14).

    :param message: what ended, and how.
    :param terminal: the terminal frame.
    """

    def __init__(self, message: str, *, terminal: Any = None) -> None:
        super().__init__(message)
        self.terminal = terminal


_BY_STATUS: dict[int, type[HelmrApiError]] = {
    401: HelmrAuthError,
    403: HelmrPermissionError,
    404: HelmrNotFoundError,
    409: HelmrConflictError,
    410: HelmrGoneError,
}


def api_error_class(status: int) -> type[HelmrApiError]:
    """Choose the class for a status that is not a success."""
    return _BY_STATUS.get(status, HelmrApiError)
