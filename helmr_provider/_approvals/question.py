"""Questions to people and their answers. A Helmr token has the question in its metadata and the answer in its data.

Everything here is pure; both sides, the worker and the triggerer, read an answer in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

QUESTION: Final = "approval"
"""Member of a token's metadata that holds the question."""

Via: TypeAlias = Literal["airflow", "helmr", "default"]

_OURS: Final = frozenset({"chosen", "approved", "params", "by", "via", "at"})


class AnswerError(ValueError):
    """The data are not an answer to the question."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The decision.

    :param chosen: the options that were chosen, in the order in which they were offered.
    :param params: values of the form's fields, and other members of the answer.
    :param by: who decided, as far as that is known.
    :param via: where it was answered: ``airflow``, ``helmr``, or ``default`` at the deadline.
    :param at: when, as ISO 8601 text.
    """

    chosen: tuple[str, ...]
    params: dict[str, Any]
    by: str | None
    via: Via
    at: str

    @property
    def data(self) -> dict[str, Any]:
        """The answer as a task returns it, and as it completes a token."""
        return {
            "chosen": list(self.chosen),
            "params": self.params,
            "by": self.by,
            "via": self.via,
            "at": self.at,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question with its options.

    :param options: what can be chosen.
    :param rejections: the options among them that mean no.
    :param multiple: whether more than one may be chosen.
    :param defaults: options that are taken at the deadline; ``None`` for none.
    :param params: fields of a form, ``{name: {"value": …, "description": …, "schema": {…}}}``.
    :raises ValueError: it cannot be asked like this.
    """

    subject: str
    options: tuple[str, ...]
    rejections: tuple[str, ...] = ()
    body: str | None = None
    multiple: bool = False
    defaults: tuple[str, ...] | None = None
    params: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        """Refuse a question that cannot be answered."""
        if not self.subject.strip():
            raise ValueError("subject must not be blank.")
        # Templates can give anything.
        if not self.options or not all(isinstance(each, str) and each.strip() for each in cast("Any", self.options)):
            raise ValueError(f"options must be texts, at least one, but are {list(self.options)!r}.")
        if len(set(self.options)) < len(self.options):
            raise ValueError(f"options must differ from one another, but are {list(self.options)!r}.")
        if self.defaults is not None:
            if not self.defaults or not set(self.defaults) <= set(self.options):
                raise ValueError(f"defaults must be among the options, but are {list(self.defaults)!r}.")
            if len(self.defaults) > 1 and not self.multiple:
                raise ValueError("defaults can be more than one option only with multiple=True.")
        if reserved := sorted(_OURS & set(self.params)):
            raise ValueError(f"The form may not have the fields {reserved}: these are words of the answer itself.")

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Question | None:
        """Read the question from a token's metadata; ``None`` if there is none.

        :param metadata: of the token.
        """
        stored = metadata.get(QUESTION)
        if not isinstance(stored, Mapping):
            return None
        members = cast("Mapping[str, Any]", stored)
        try:
            return cls(
                subject=members["subject"],
                options=tuple(members["options"]),
                rejections=tuple(members.get("rejections") or ()),
                body=members.get("body"),
                multiple=bool(members.get("multiple")),
                defaults=None if members.get("defaults") is None else tuple(members["defaults"]),
                params=dict(members.get("params") or {}),
            )
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def metadata(self) -> dict[str, Any]:
        """The question as a member of a token's metadata."""
        members: dict[str, Any] = {"subject": self.subject, "options": list(self.options)}
        if self.body is not None:
            members["body"] = self.body
        if self.rejections:
            members["rejections"] = list(self.rejections)
        if self.multiple:
            members["multiple"] = True
        if self.defaults is not None:
            members["defaults"] = list(self.defaults)
        if self.params:
            members["params"] = self.params
        return {QUESTION: members}

    @property
    def preset(self) -> dict[str, Any]:
        """The values that the form's fields have before anybody fills them in."""
        return {name: shown["value"] for name, shown in self.params.items() if shown.get("value") is not None}

    def default(self, at: datetime) -> Answer | None:
        """Return the answer that is taken at the deadline; ``None`` if there is no default.

        :param at: when that is.
        """
        if self.defaults is None:
            return None
        return Answer(chosen=self.defaults, params=self.preset, by=None, via="default", at=at.isoformat())

    def answered_in_airflow(self, chosen: Sequence[str], params: Mapping[str, Any], by: str | None, at: str) -> Answer:
        """Return an answer from Airflow, which has checked the options."""
        return Answer(chosen=tuple(chosen), params={**self.preset, **params}, by=by, via="airflow", at=at)

    def read(self, data: object, *, noticed: datetime) -> Answer:
        """Read the data that a token was completed with.

        People and programs may say it shortly: an option's text, a list of them, true or false, or an object with one
        of these under ``chosen`` or ``approved``.

        :param data: of the token.
        :param noticed: time of the answer if the data have none.
        :raises AnswerError: this is no answer to the question.
        """
        members = dict(cast("Mapping[str, Any]", data)) if isinstance(data, Mapping) else {"chosen": data}
        chosen = self._chosen(members["chosen"] if "chosen" in members else members.get("approved"))
        params, by = members.get("params"), members.get("by")
        if not isinstance(params, Mapping | None):
            raise AnswerError(f"params must be an object, but are {params!r}.")
        if not isinstance(by, str | None):
            raise AnswerError(f"by must be a text, but is {by!r}.")
        more = {name: value for name, value in members.items() if name not in _OURS}
        via = members.get("via")
        return Answer(
            chosen=chosen,
            params={**self.preset, **more, **cast("Mapping[str, Any]", params or {})},
            by=by,
            via=cast("Via", via) if via in {"airflow", "default"} else "helmr",
            at=_moment(members.get("at")) or noticed.isoformat(),
        )

    def _chosen(self, members: object) -> tuple[str, ...]:
        names = cast("list[object]", members) if isinstance(members, list) else [members]
        chosen = {self._option(name) for name in names}
        if not chosen:
            raise AnswerError("nothing was chosen.")
        if len(chosen) > 1 and not self.multiple:
            raise AnswerError(f"only one option can be chosen, not {sorted(chosen)}.")
        return tuple(option for option in self.options if option in chosen)

    def _option(self, name: object) -> str:
        if isinstance(name, bool):
            meant = [option for option in self.options if (option not in self.rejections) is name]
            if len(meant) == 1:
                return meant[0]
        elif isinstance(name, str):
            if name in self.options:
                return name
            alike = [option for option in self.options if option.strip().casefold() == name.strip().casefold()]
            if len(alike) == 1:
                return alike[0]
        raise AnswerError(f"{name!r} is none of the options {list(self.options)}.")


def _moment(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return None
    return value
