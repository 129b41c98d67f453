"""Find the problem of a connection, and the scopes of its key, without an effect on the control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from helmr_provider.client.errors import (
    HelmrApiError,
    HelmrAuthError,
    HelmrConnectionError,
    HelmrError,
    HelmrPermissionError,
    HelmrProtocolError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.hooks.connection import HelmrSettings


def probe(settings: HelmrSettings) -> tuple[bool, str]:
    """Try the connection.

    :param settings: The parsed connection.
    :return: Whether the control plane accepts the credential, and a text for people: the scopes, or the problem.
    """
    try:
        with settings.client(max_streams=0) as client:
            scopes = {scope: check(client) for scope, check in _CHECKS.items()}
    except HelmrError as error:
        return False, _diagnosis(error, settings.url)
    known = ", ".join(f"{scope} {'yes' if has else 'NO'}" for scope, has in scopes.items() if has is not None)
    unknown = ", ".join(scope for scope, has in scopes.items() if has is None)
    tail = f"; not checked: {unknown}" if unknown else ""
    return True, f"Connected to Helmr at {settings.url}. Scopes of the key: {known}{tail}."


def _has_scope(call: Callable[[], object], *, refusal: int | None = None) -> bool | None:
    """Whether the call got past the scope check; ``refusal`` is the status that it is refused with behind the check."""
    try:
        call()
    except HelmrPermissionError:
        return False
    except HelmrApiError as error:
        if refusal is None:
            raise
        return True if error.status == refusal else None
    return True


def _runs_read(client: HelmrClient) -> bool | None:
    def count() -> None:
        # Reading is tolerant, so that any JSON object would do.
        if "queued" not in client.runs.count().raw:
            raise HelmrProtocolError("its answer to countRuns holds no counts of runs")

    return _has_scope(count)


def _runs_create(client: HelmrClient) -> bool | None:
    # The scope is checked before the task is looked up, and no task has this id (recordings 038 and 077).
    return _has_scope(lambda: client.sessions.start(f"airflow-connection-test-{uuid4().hex}"), refusal=409)


def _tokens_create(client: HelmrClient) -> bool | None:
    # More hours than a duration holds: the client sends it, the control plane refuses it (recordings 041 and 430).
    return _has_scope(lambda: client.tokens.create(timeout=f"{'9' * 15}h"), refusal=400)


def _lacks_scope(call: Callable[[HelmrClient, str], object]) -> Callable[[HelmrClient], bool | None]:
    """Make a check that can only show that a scope is missing: it requests something that does not exist.

    A refusal for want of the scope is certain (recordings 039 and 461). That nothing is found does not say whether the
    control plane checked the scope before it searched for the resource.
    """

    def check(client: HelmrClient) -> bool | None:
        return False if _has_scope(lambda: call(client, str(uuid4())), refusal=404) is False else None

    return check


# The first one tells whether there is a Helmr control plane at all, so a failure of it ends the test.
_CHECKS: dict[str, Callable[[HelmrClient], bool | None]] = {
    "runs:read": _runs_read,
    "runs:create": _runs_create,
    "tokens:read": lambda client: _has_scope(lambda: client.tokens.list_page(limit=1)),
    "tokens:create": _tokens_create,
    "runs:manage": _lacks_scope(lambda client, missing: client.runs.cancel(missing)),
    "tokens:complete": _lacks_scope(lambda client, missing: client.tokens.complete(missing, None)),
    "tokens:cancel": _lacks_scope(lambda client, missing: client.tokens.cancel(missing)),
}


def _diagnosis(error: HelmrError, url: str) -> str:
    if isinstance(error, HelmrApiError):
        return _refusal(error, url)
    if isinstance(error, HelmrConnectionError):
        return f"Cannot reach {url}: {error}"
    if isinstance(error, HelmrProtocolError):
        return f"{url} is not a Helmr control plane: {error}"
    return str(error)


def _refusal(error: HelmrApiError, url: str) -> str:
    if not isinstance(error.body, dict) or "error" not in error.body:
        if error.status in {502, 503, 504}:
            return f"{url} answered {error.status}, but not in Helmr's form: a gateway in front of it cannot reach it."
        return f"{url} is not a Helmr control plane: it answered {error.status} without saying why in Helmr's form."
    if isinstance(error, HelmrAuthError):
        return f"{url} does not accept the API key: check the password of the connection."
    if error.status == 400 and "Helmr-API-Version" in error.message:
        return f"{url} does not speak this provider's version of the Helmr API: {error.message}."
    if error.status == 404:
        return f"{url} has no Helmr API at this path: check the path prefix of the address."
    return f"{url} has a problem: {error}"
