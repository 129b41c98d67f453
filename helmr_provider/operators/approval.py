"""Ask a person, in Airflow and in Helmr at the same time; the first answer counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    Param,
    ParamValidationError,
    PokeReturnValue,
    context_merge,
)

from helmr_provider._approvals.question import AnswerError, Question
from helmr_provider._common.cleanup import clean_up
from helmr_provider._common.template_fields import TemplateField, text, texts
from helmr_provider._sessions.identity import OwnershipMetadata
from helmr_provider.client.durations import seconds
from helmr_provider.client.errors import HelmrConflictError, HelmrError, HelmrGoneError
from helmr_provider.links import HelmrApprovalLink, store_approval_link, token_url
from helmr_provider.operators._base import HelmrWaitingOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider._approvals.question import Answer
    from helmr_provider.client.models.tokens import Token
    from helmr_provider.triggers.approval import HelmrApprovalTrigger

# The default is taken, or the token cancelled, at the deadline; the token must still be there then.
_MARGIN: Final = timedelta(minutes=15)
# Airflow gives up a try that has been silent for minutes; a question is asked within seconds.
_GIVEN_UP_AFTER: Final = timedelta(minutes=1)


class HelmrApprovalOperator(HelmrWaitingOperator):
    """Ask a person, and return the answer; the wait needs no worker.

    The question is a Helmr token, and Airflow (3.1 and later) shows it under *Required Actions*. The first answer
    counts: an answer in Airflow completes the token, a completed token closes the question in Airflow. On earlier
    versions, the task's log says how to answer in Helmr.

    The return value, which also becomes the token's data if the answer came from Airflow or is the default::

        {"chosen": ["Approve"], "params": {}, "by": "ada", "via": "airflow", "at": "2026-11-23T12:00:00+00:00"}

    ``via`` is ``airflow``, ``helmr`` or ``default``. In Helmr the token may be completed with such an object or less:
    an option's text, a list of them, ``true`` or ``false``, ``{"approved": true, "by": "ada"}``; further members become
    ``params``. Data that are no answer fail the task permanently, because a token is completed only once.

    A retry waits for the same question; a clear asks anew. A task that is failed or cleared while it waits cancels
    the token.

    Needs the scopes ``tokens:create``, ``tokens:read``, ``tokens:complete`` and ``tokens:cancel`` (operations
    createToken, getToken, listTokens, completeToken, cancelToken).

    .. seealso:: Guide: :doc:`/how-to/approvals`

    :param subject: the question in one line. Like the body, it must be the same in every try. (templated)
    :param options: options to choose from, as text. (templated)
    :param body: information for the decision, Markdown; not for secrets, because Helmr keeps it too. (templated)
    :param form: further fields, by name: a :class:`Param`, or an initial value; they become the answer's
        ``params``. (templated)
    :param multiple: whether more than one option may be chosen.
    :param defaults: option, or options, that become the answer at the time limit. By default, the task fails then.
        (templated)
    :param rejections: one option or several that reject.
    :param on_reject: effect of a rejection on the task: ``"succeed"``, ``"skip"`` (the answer is still pushed as an
        XCom), or ``"fail"`` permanently.
    :param assigned_users: the only users who may answer in Airflow, ``{"id": …, "name": …}`` or a list of these; Helmr
        does not know Airflow's users. (templated)
    :param tags: up to 10 tags of the token, 128 bytes each. (templated)
    :param notifiers: notifiers, or functions of the context, to call when the question can be answered; again in a
        retry that still waits. The context has ``helmr_approval`` with ``url``, ``token_id`` and ``subject``, also in
        templates: ``{{ helmr_approval.url }}``. A notifier that fails is logged.
    :param timeout: how long to wait for an answer; timedelta, seconds, or text such as ``"1h"``, from the start of the
        try. An ``execution_timeout`` that is earlier counts. Without either, the control plane's limit for tokens: 7
        days.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowFailException: the data are no answer, the answer rejects and ``on_reject`` is ``"fail"``, the token
        was cancelled from elsewhere, or the question is not valid.
    :raises AirflowTaskTimeout: there was no answer within the limit.
    """

    subject = TemplateField[str](text)
    options = TemplateField["Sequence[str]"](texts)
    body = TemplateField[str | None](text)
    defaults = TemplateField["str | Sequence[str] | None"](texts)
    tags = TemplateField["Sequence[str] | None"](texts)

    template_fields = (
        "subject",
        "options",
        "body",
        "form",
        "defaults",
        "assigned_users",
        "tags",
        "helmr_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"body": "md", "form": "json"}
    operator_extra_links = (HelmrApprovalLink(),)
    ui_color = "#f8f0dc"

    def __init__(
        self,
        *,
        subject: str,
        options: Sequence[str] = ("Approve", "Reject"),
        body: str | None = None,
        form: Mapping[str, Any] | None = None,
        multiple: bool = False,
        defaults: str | Sequence[str] | None = None,
        rejections: str | Sequence[str] = ("Reject",),
        on_reject: Literal["succeed", "skip", "fail"] = "succeed",
        assigned_users: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None,
        tags: Sequence[str] | None = None,
        notifiers: Sequence[Callable[[Context], None]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(deferrable=True, **kwargs)
        self.subject = subject
        self.options = options
        self.body = body
        # Not Param objects: their text form, which changes from parsing to parsing, would end up in the stored DAG.
        self.form = {name: _field(value) for name, value in form.items()} if isinstance(form, Mapping) else form
        self.multiple = multiple
        self.defaults = defaults
        self.rejections = (rejections,) if isinstance(rejections, str) else rejections
        self.on_reject = on_reject
        self.assigned_users = assigned_users
        self.tags = tags
        self.notifiers = notifiers
        self._ids: dict[str, Any] | None = None
        self._retried = True
        self._passed_on = True
        if on_reject not in {"succeed", "skip", "fail"}:
            raise ValueError("on_reject must be 'succeed', 'skip' or 'fail'")
        if isinstance(options, list | tuple) and not any("{" in str(each) for each in [*options, defaults]):
            self._question()

    @property
    def awaited(self) -> str:
        """The question, for people."""
        return f"the answer to {self.subject!r}"

    def submit(self, context: Context) -> dict[str, Any]:
        """Create the token, or find the one of an earlier try.

        :param context: of the task instance.
        :raises HelmrError: it cannot be created.
        :raises AirflowFailException: the question cannot be asked like this.
        """
        from helmr_provider._approvals.hitl import AVAILABLE

        stamp = OwnershipMetadata.of(context["ti"], context["dag_run"])
        self._retried = stamp.try_number <= context["ti"].max_tries
        token = self._token(context, stamp)
        ids = {"token_id": token.id, "owner": stamp.instance}
        if AVAILABLE:
            ids["ti_id"] = str(context["ti"].id)
        self._ids = ids
        if self.do_xcom_push:
            context["ti"].xcom_push(key="token_id", value=token.id)
        store_approval_link(context, console_url=self.hook.settings.console_url, token_id=token.id)
        return ids

    def execute(self, context: Context) -> Any:
        """Ask, and defer until there is an answer.

        :param context: of the task instance.
        """
        with closing(self.hook), self._withdrawn_if_it_fails():
            self._enter(context)
            ids, deadline = self._submit(context), self._deadline(context)
            if (polled := self._poll(context, ids)).is_done:
                return polled.xcom_value
            self._show(ids)
            self._notify(context, ids)
            return self._return_or_defer(context, ids, deadline)

    def take_over(
        self, context: Context, ids: dict[str, Any] | None, event: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Become responsible for the question; complete its token if the event is an answer given in Airflow.

        :param context: of the task instance.
        :param ids: as of the deferral; ``None`` in ``dag.test()``.
        :param event: of the trigger, or the answer.
        """
        self._ids = ids = super().take_over(context, ids, event)
        self._retried = context["ti"].try_number <= context["ti"].max_tries
        if ids is not None and "chosen_options" in event:
            self._pass_on(ids, event)
        return ids

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; also when the trigger was lost or timed out, without the kwargs of the deferral.

        :param next_method: what to resume with.
        :param next_kwargs: its arguments.
        :param context: of the task instance.
        """
        with self._withdrawn_if_it_fails():
            return super().resume_execution(next_method, next_kwargs, context)

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Poll the token once.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        :raises AirflowFailException: there will never be an answer.
        """
        token = self.hook.client.tokens.retrieve(ids["token_id"])
        match token.status:
            case "pending":
                return PokeReturnValue(is_done=False)
            case "completed":
                return PokeReturnValue(is_done=True, xcom_value=self._result(context, _read(token)))
            case "expired":
                if (default := self._question().default(datetime.now(UTC))) is not None:
                    return PokeReturnValue(is_done=True, xcom_value=self._result(context, default))
                raise AirflowTaskTimeout(f"Nobody answered {self.subject!r} before {token.timeout_at}.")
            case status:
                raise AirflowFailException(
                    f"Token {token.id}, which asks {self.subject!r}, was {status} by another client. "
                    "Clear the task to ask anew."
                )

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrApprovalTrigger:
        """Return the trigger that waits.

        :param ids: as returned by :meth:`submit`.
        :param deadline: when to take the default, or to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.approval import HelmrApprovalTrigger

        return HelmrApprovalTrigger(helmr_conn_id=self.helmr_conn_id, deadline=deadline, **ids)

    def on_time_limit(self, context: Context, ids: dict[str, Any]) -> str:
        """Cancel the token; no task waits for its answer any more.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        del context
        withdrawn = self._withdraw(ids)
        return f"Token {ids['token_id']} {'was cancelled' if withdrawn else 'was not cancelled'}."

    def stop(self, reason: str) -> None:
        """Cancel the token.

        :param reason: unused; a token keeps none.
        """
        del reason
        self._withdraw(self._ids)

    def _question(self) -> Question:
        defaults = [self.defaults] if isinstance(self.defaults, str) else self.defaults
        return Question(
            subject=self.subject,
            options=tuple(self.options),
            rejections=tuple(option for option in self.options if option in self.rejections),
            body=self.body,
            multiple=self.multiple,
            defaults=None if defaults is None else tuple(defaults),
            params=dict(self.form or {}),
        )

    def _token(self, context: Context, stamp: OwnershipMetadata) -> Token:
        from helmr_provider._approvals.tokens import cancel_earlier, find_or_create

        client, metadata = self.hook.client, stamp.of_all_tries(self.hook.settings.session_prefix)
        began = getattr(context["ti"], "start_date", None)
        has_just_begun = began is None or datetime.now(UTC) - began < _GIVEN_UP_AFTER
        if stamp.try_number > 1 or not has_just_begun:
            # Before the token: a try that was given up must not ask another question.
            try:
                cancel_earlier(
                    client, metadata, try_number=stamp.try_number, has_just_begun=has_just_begun, log=self.log
                )
            except HelmrError as error:
                self.log.warning("Earlier questions of this task cannot be searched for: %s", error)
        lifetimes = [each for each in (_delta(self.timeout), self.execution_timeout) if each is not None]
        try:
            return find_or_create(
                client,
                self._question(),
                stamp=metadata,
                key=lambda generation: self._once_key(context, "approval", str(generation)),
                lifetime=min(lifetimes) + _MARGIN if lifetimes else None,
                tags=self.tags,
            )
        except (TypeError, ValueError) as error:
            raise AirflowFailException(f"{self.subject!r} cannot be asked: {error}") from None

    def _show(self, ids: dict[str, Any]) -> None:
        """Show the question in Airflow, and say in the log how to answer it in Helmr."""
        from helmr_provider._approvals import hitl

        question = self._question()
        if "ti_id" in ids:
            users = [self.assigned_users] if isinstance(self.assigned_users, Mapping) else self.assigned_users
            hitl.show(ids["ti_id"], question, users)
            self.log.info("%s waits for an answer under Required Actions, or in Helmr.", self.subject)
        else:
            self.log.info("%s waits for an answer in Helmr; this version of Airflow cannot ask.", self.subject)
        self.log.info(
            "In Helmr, complete token %s (%s), with %s for example.",
            ids["token_id"],
            token_url(self.hook.settings.console_url, ids["token_id"]),
            json.dumps({"chosen": [question.options[0]], "by": "your name"}, ensure_ascii=False),
        )

    def _notify(self, context: Context, ids: dict[str, Any]) -> None:
        """Call the notifiers; one that fails costs a log line, not the question."""
        url = token_url(self.hook.settings.console_url, ids["token_id"])
        approval = {"subject": self.subject, "token_id": ids["token_id"], "url": url}
        context_merge(context, {"helmr_approval": approval})
        for notifier in self.notifiers:
            try:
                notifier(context)
            except Exception:
                self.log.exception("%s could not notify about %r", type(notifier).__name__, self.subject)

    def _pass_on(self, ids: dict[str, Any], response: Mapping[str, Any]) -> None:
        """Complete the token with the answer from Airflow.

        Airflow keeps the answer until the control plane is reachable: the trigger reads it first.
        """
        from helmr_provider._approvals.hitl import answer_of
        from helmr_provider._common.errors import is_permanent

        try:
            self._complete(ids, answer_of(self._question(), response))
        except HelmrError as error:
            if is_permanent(error):
                with self._translate_errors(f"complete the token of {self.subject!r}"):
                    raise
            self._passed_on = False
            self.log.warning("The answer from Airflow cannot be sent to the control plane now: %s", error)

    def _complete(self, ids: dict[str, Any], answer: Answer) -> None:
        try:
            self.hook.client.tokens.complete(ids["token_id"], answer.data)
        except (HelmrConflictError, HelmrGoneError) as error:
            self.log.warning("The token had ended before it could be answered via %s: %s", answer.via, error)

    def _give_up(self, context: Context, ids: dict[str, Any]) -> Any:
        """Take the default, if there is one."""
        if not self._passed_on:
            raise AirflowException(
                "There is an answer in Airflow, but it could not be sent to the control plane in time."
            )
        default = self._question().default(datetime.now(UTC))
        if default is None:
            return super()._give_up(context, ids)
        with self._translate_errors(f"complete the token of {self.subject!r}"):
            self._complete(ids, default)
            return self.poll(context, ids).xcom_value

    def _result(self, context: Context, answer: Answer) -> dict[str, Any]:
        params = dict(answer.params)
        for name, shown in (self.form or {}).items():
            default = {} if shown.get("value") is None else {"default": shown["value"]}
            value = {"value": params[name]} if name in params else {}
            try:
                params[name] = Param(**default, schema=shown.get("schema") or {}).resolve(**value)
            except ParamValidationError as error:
                reason = str(error).splitlines()[0]
                raise AirflowFailException(
                    f"{self.subject!r} was answered, but {name!r} is not valid: {reason}"
                ) from None
        result = {**answer.data, "params": params}
        self.log.info("%s: %s, via %s by %s.", self.subject, ", ".join(answer.chosen), answer.via, answer.by)
        if self.on_reject != "succeed" and set(answer.chosen) & set(self.rejections):
            message = f"{self.subject!r} was answered with {', '.join(answer.chosen)} by {answer.by or answer.via}."
            if self.on_reject == "fail":
                raise AirflowFailException(message)
            if self.do_xcom_push:
                context["ti"].xcom_push(key="return_value", value=result)
            raise AirflowSkipException(message)
        return result

    @contextmanager
    def _withdrawn_if_it_fails(self) -> Iterator[None]:
        """Cancel the token when the task fails and no retry will wait for it."""
        try:
            yield
        except AirflowSkipException:
            raise
        except Exception as error:
            if isinstance(error, AirflowFailException) or not self._retried:
                self._withdraw(self._ids)
            raise

    def _withdraw(self, ids: dict[str, Any] | None) -> bool:
        from helmr_provider._approvals.tokens import cancel, left_over_token

        if ids is None:
            return False
        token_id, owner = ids["token_id"], ids["owner"]

        def withdraw() -> bool:
            # Not the hook's client: a signal may have stopped that in the middle of a request, with its locks held.
            with self.hook.settings.client(max_streams=0) as client:
                return cancel(client, token_id, owner)

        return bool(clean_up(withdraw, log=self.log, left_over=left_over_token(token_id)))


def _read(token: Token) -> Answer:
    question = Question.of(token.metadata)
    if question is None:
        raise AirflowFailException(f"Token {token.id} has no question in its metadata.")
    try:
        return question.read(token.data, noticed=datetime.now(UTC))
    except AnswerError as error:
        raise AirflowFailException(
            f"Token {token.id} was completed, but not with an answer to {question.subject!r}: {error} "
            "A token is completed once: clear the task to ask anew."
        ) from None


def _field(param: Any) -> Any:
    """Return a field of the form as Airflow's interface reads it.

    :param param: as set by the author: a Param, a mapping with a schema, or the field's value.
    """
    if isinstance(param, Param):
        value = param.value if param.has_value else None
        return {"value": value, "description": param.description, "schema": dict(param.schema)}
    if isinstance(param, Mapping) and "schema" in param:
        return {"value": param.get("value"), "description": param.get("description"), "schema": dict(param["schema"])}
    return {"value": param, "description": None, "schema": {}}


def _delta(limit: timedelta | float | str | None) -> timedelta | None:
    return None if limit is None else timedelta(seconds=seconds(limit, "timeout"))
