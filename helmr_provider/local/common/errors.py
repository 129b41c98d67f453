"""The error answer of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class ApiError(Exception):
    """An answer other than success: `{"error": text, "code"?: code}` (contract/behaviour.md section 2).

    :param status: the HTTP status.
    :param message: the text; the code itself where the control plane has no separate text.
    :param code: the machine-readable code, if this error has one.
    :param headers: further response headers.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, str]:
        """Return the JSON body, members in the server's order."""
        return {"error": self.message} if self.code is None else {"code": self.code, "error": self.message}


# What the database refuses to store.
JSON = "json"
TEXT = "text"
NUMBER = "number"
DOUBLE = "double"
NUL_IN_TEXT = 'ERROR: invalid byte sequence for encoding "UTF8": 0x00 (SQLSTATE 22021)'


class StorageRefusal(ValueError):  # noqa: N818 - named after what the database does
    """A value that the real control plane's database does not store.

    :param kind: the wrong part: the JSON text, a text, a number, or a number in metadata.
    :param text: the database's own text.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def session_terminal() -> ApiError:
    """Build the answer to a request for work in a finished session."""
    return ApiError(409, "session is terminal", "session_terminal")


def session_not_found() -> ApiError:
    """Build the answer for a session that this environment does not have."""
    return ApiError(404, "session not found")


def run_not_found() -> ApiError:
    """Build the answer for a run that this environment does not have."""
    return ApiError(404, "run not found")


def token_not_found() -> ApiError:
    """Build the answer for a token that this environment does not have."""
    return ApiError(404, "token not found", "token_not_found")


def stream_not_found() -> ApiError:
    """Build the answer for a stream that the deployment does not declare in this direction."""
    return ApiError(404, "stream not found", "stream_not_found")


def fingerprint_mismatch() -> ApiError:
    """Build the answer to an idempotency key that was used with another request."""
    return ApiError(
        409, "idempotency key was already used with different request parameters", "idempotency_fingerprint_mismatch"
    )
