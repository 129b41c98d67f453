"""The tokens of a task instance's questions: one for all tries, cancelled when no try waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from helmr_provider._approvals.question import QUESTION
from helmr_provider._common.errors import IdentityError
from helmr_provider._sessions.epoch import given_up, is_earlier_epoch, is_of_same_start
from helmr_provider._sessions.identity import OWNERSHIP, ownership_member
from helmr_provider.client.errors import HelmrConflictError, HelmrGoneError, HelmrNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from helmr_provider._approvals.question import Question
    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.tokens import Token

# Only a question that ended without an answer is followed by the next one.
_MOST: Final = 100
_SAME_TASK: Final = ("prefix", "dag_id", "run_id", "task_id", "map_index")
_PAGE: Final = 500


def find_or_create(
    client: HelmrClient,
    question: Question,
    *,
    stamp: Mapping[str, Any],
    key: Callable[[int], str],
    lifetime: timedelta | None,
    tags: Sequence[str] | None,
) -> Token:
    """Create the token of a question, or find the one that an earlier try has created.

    :param client: of the worker.
    :param question: what to ask.
    :param stamp: metadata that say who asks; the same in every try.
    :param key: idempotency key of a generation; the next one begins when the last question was withdrawn or expired.
    :param lifetime: how long the token can be completed.
    :param tags: of the token.
    :raises HelmrError: a request failed.
    :raises IdentityError: another question was asked under this key, or all are withdrawn.
    :raises ValueError: the token cannot be like this; nothing was sent.
    """
    for generation in range(1, _MOST + 1):
        try:
            token = client.tokens.create(
                timeout=lifetime,
                tags=tags,
                metadata={**stamp, **question.metadata},
                idempotency_key=key(generation),
            )
        except HelmrConflictError as error:
            raise IdentityError(
                f"an earlier try has asked something else ({error.code}). Templates of a question must give the same "
                "in every try; clear the task to ask anew.",
                permanent=True,
            ) from None
        if token.status in {"pending", "completed"}:
            return token
    raise IdentityError(f"it was asked {_MOST} times, and withdrawn each time.", permanent=True)


def cancel(client: HelmrClient, token_id: str, owner: str) -> bool:
    """Cancel a token, if it is still pending and its stamp names this owner; tell whether that was done.

    :param client: of the worker.
    :param token_id: the token.
    :param owner: who must have asked.
    :raises HelmrError: a request failed.
    """
    token = client.tokens.retrieve(token_id)
    if not token.is_pending or ownership_member(token.metadata, "owner") != owner:
        return False
    try:
        client.tokens.cancel(token_id)
    except (HelmrConflictError, HelmrGoneError, HelmrNotFoundError):
        return False
    return True


def cancel_earlier(
    client: HelmrClient, stamp: Mapping[str, Any], *, try_number: int, has_just_begun: bool, log: Any
) -> None:
    """Cancel what the same task instance asked before it was cleared, as far as nothing else has done it.

    A trigger cannot tell a clear from a retry, which waits for the same token.

    :param client: of the worker.
    :param stamp: as for :func:`find_or_create`.
    :param try_number: of this try.
    :param has_just_begun: whether Airflow cannot have given up this try yet. A clear after the DAG author has lowered
        ``retries`` lowers ``max_tries``, too: then an earlier question of the same DAG run looks like a later one.
    :param log: of the task.
    :raises HelmrError: a request failed.
    :raises IdentityError: the task has asked after a later clear, so Airflow has given up this try.
    """
    ours = stamp[OWNERSHIP]
    for token in client.tokens.iter(status="pending", limit=_PAGE):
        theirs = token.metadata.get(OWNERSHIP)
        if QUESTION not in token.metadata or not isinstance(theirs, dict):
            continue
        owner, epoch = (ownership_member(token.metadata, member) for member in ("owner", "epoch"))
        if owner in {None, ours["owner"]} or any(theirs.get(name) != ours[name] for name in _SAME_TASK):
            continue
        looks_later = is_earlier_epoch(ours["epoch"], epoch or "")
        if looks_later and not (has_just_begun and is_of_same_start(ours["epoch"], epoch or "")):
            raise given_up(f"token {token.id}", None, try_number)
        if cancel(client, token.id, str(owner)):
            log.info("Cancelled token %s, which was asked before this task was cleared.", token.id)


def left_over_token(token_id: str) -> str:
    """Describe what remains when a token cannot be cancelled, and how to end it.

    :param token_id: the token.
    """
    return f"token {token_id} is still open; HelmrCancelTokenOperator or the console cancels it."
