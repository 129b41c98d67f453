"""Make the schedules of a control plane those that are declared."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from helmr_provider._common.template_fields import TemplateField, text
from helmr_provider._common.validation import renamed, require_bool, require_id
from helmr_provider.client.errors import HelmrNotFoundError
from helmr_provider.operators._base import HelmrOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.schedules._check import DeclaredSchedule, HelmrSchedule
    from helmr_provider.schedules._plan import Change, Memory

# Under this key the next run of the DAG finds what this one knew.
_MEMORY: Final = "helmr_schedules"
_SUFFIXES: Final = (".yaml", ".yml", ".json")


class HelmrSyncSchedulesOperator(HelmrOperator):
    """Make the schedules of a control plane match the declared ones, for example those in a file beside the DAG.

    All declarations are checked first. If any is wrong, the task fails permanently with all problems in one message,
    and changes nothing. Otherwise it compares them with the existing schedules, logs the differences as a table, and
    creates, replaces, activates, deactivates and, with ``prune``, deletes schedules. A second run finds nothing to
    change. Schedules that tasks declare in their own source are never touched.

    Helmr replaces a schedule as a whole and does not return its run options. The task therefore stores the options that
    it sets as an XCom, with the time of the schedule's last change. The next run of the DAG knows them as long as the
    schedule has not changed since. Unknown options are replaced if some are declared; otherwise they stay until another
    change replaces the schedule. The table shows both cases.

    If some changes fail, the task makes the others, fails, and names the failed ones. Its next run tries them again.

    Needs the scopes ``runs:read`` (operation listSchedules) and ``runs:create`` (createSchedule, updateSchedule,
    activateSchedule, deactivateSchedule, deleteSchedule).

    .. seealso:: Guide: :doc:`/how-to/schedules`

    :param schedules: schedules to declare. A list of dictionaries or
        :class:`~helmr_provider.schedules.HelmrSchedule` objects; or the name of a ``.yaml``, ``.yml`` or ``.json``
        file, which Airflow finds as a template, for example beside the DAG file, and which may contain Jinja; or its
        text; or a ``Path``, which is read unchanged when the task runs; or a function of ``context`` and ``jinja_env``
        that returns one of these. Each has ``deduplication_key``, ``task``, ``cron`` and, optionally, ``timezone``,
        ``external_id``, ``active`` and ``options``. (templated)
    :param owned_prefix: prefix of the keys that belong to this task alone; all declared keys must have it. It ends at a
        separator: ``"acme"`` owns ``acme`` and ``acme.nightly``, but not ``acme2.nightly`` or ``acme-x.daily``;
        ``"acme-"`` owns the latter. (templated)
    :param prune: whether to delete the schedules that ``owned_prefix`` owns and that are not declared. An environment
        with 200 schedules or more cannot be pruned, because no more are listed.
    :param allow_empty: whether to prune even if no schedules are declared, which deletes all that ``owned_prefix``
        owns. By default, the task fails and changes nothing.
    :param max_deletes: how many schedules one run may delete; if there are more, the task fails and changes nothing.
        Default: no limit.
    :param preview_only: whether to log and return the changes without making them; a boolean, or text such as
        ``"True"``. Default: False. (templated)
    :param preview: how many of the next fires to show of each schedule, in its time zone. Default: 3.
    :param dry_run: deprecated name of ``preview_only``.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowFailException: A declaration is wrong, or the control plane refuses a change permanently.
    """

    owned_prefix = TemplateField[str | None](text)

    template_fields = ("schedules", "owned_prefix", "preview_only", "helmr_conn_id")
    template_ext = _SUFFIXES
    template_fields_renderers: ClassVar[dict[str, str]] = {"schedules": "yaml"}
    ui_color = "#e4e9f7"

    def __init__(
        self,
        *,
        schedules: Sequence[Mapping[str, Any] | HelmrSchedule] | str | Path | Callable[..., Any],
        owned_prefix: str | None = None,
        prune: bool = False,
        allow_empty: bool = False,
        max_deletes: int | None = None,
        preview_only: bool | str = False,
        preview: int = 3,
        dry_run: bool | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if prune and not owned_prefix:
            raise ValueError("prune needs an owned_prefix: only schedules whose keys it owns are deleted.")
        if max_deletes is not None and max_deletes < 0:
            raise ValueError("max_deletes must not be negative")
        self.schedules = schedules
        self.owned_prefix = owned_prefix
        self.prune = prune
        self.allow_empty = allow_empty
        self.max_deletes = max_deletes
        # BaseOperator has a method called dry_run, so a template field cannot have that name.
        self.preview_only = renamed("preview_only", preview_only, "dry_run", dry_run)
        self.preview = preview
        # Airflow puts the contents in the place of a file's name.
        self._source = str(schedules) if isinstance(schedules, (str, Path)) and _is_file(schedules) else "schedules"

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare, show, and make it true.

        :param context: of the task instance.
        :return: ``preview_only``, ``counts`` by action, the ``changes``, and the keys that are ``unchanged``.
            ``dry_run`` is the former name of ``preview_only``.
        """
        from helmr_provider.schedules._apply import Sync
        from helmr_provider.schedules._plan import Memory

        declared, preview_only = self._declared(context), require_bool("preview_only", self.preview_only)
        ti = context["ti"]
        memory = Memory.read(
            ti.xcom_pull(task_ids=ti.task_id, key=_MEMORY, map_indexes=ti.map_index, include_prior_dates=True)
        )
        with closing(self.hook):
            changes = self._plan(declared, memory)
            now = datetime.now(UTC)
            self._show(changes, now, preview_only=preview_only)
            if not preview_only:
                sync = Sync(self.hook.client.schedules, memory, self.log)
                sync.make(changes)
                if self.do_xcom_push:
                    ti.xcom_push(key=_MEMORY, value=sync.stored())
                if failure := sync.failure():
                    raise (AirflowException if failure.may_pass else AirflowFailException)(failure.text)
        return self._result(changes, now, preview_only=preview_only)

    def _declared(self, context: Context) -> list[DeclaredSchedule]:
        from helmr_provider.schedules._check import DeclarationError, check
        from helmr_provider.schedules._read import read_text

        schedules: Any = self.schedules
        if callable(schedules):
            schedules = schedules(context=context, jinja_env=self.get_template_env())
        source = self._source
        try:
            if isinstance(schedules, Path):
                source = schedules.name
                schedules = schedules.read_text()
            if isinstance(schedules, str):
                if _is_file(schedules):
                    raise FileNotFoundError(
                        f"There is no file {schedules} beside the DAG or in its template_searchpath"
                    )
                schedules = read_text(schedules, source=source)
            return check(schedules, source=source, prefix=self.owned_prefix)
        except (DeclarationError, OSError) as error:
            raise AirflowFailException(str(error)) from None

    def _plan(self, declared: list[DeclaredSchedule], memory: Mapping[str, Memory]) -> list[Change]:
        from helmr_provider.schedules._plan import LIST_CAP, PlanError, plan

        with self._translate_errors("list the schedules"):
            present = self.hook.client.schedules.list()
            is_complete = len(present) < LIST_CAP
            if not is_complete:
                # A schedule beyond the list can be read, if an earlier sync stored its id.
                seen = {schedule.id for schedule in present}
                for id_ in [memory[each.key].id for each in declared if each.key in memory]:
                    if id_ not in seen:
                        try:
                            present.append(self.hook.client.schedules.retrieve(id_))
                        except HelmrNotFoundError:
                            continue
        try:
            return plan(
                declared,
                present,
                memory,
                prune_prefix=require_id("owned_prefix", self.owned_prefix) if self.prune else None,
                allow_empty=self.allow_empty,
                max_deletes=self.max_deletes,
                is_complete=is_complete,
            )
        except PlanError as error:
            raise AirflowFailException(str(error)) from None

    def _show(self, changes: list[Change], now: datetime, *, preview_only: bool) -> None:
        from helmr_provider.schedules._show import summary, table

        aim = "would change" if preview_only else "are to change"
        self.log.info("How the schedules on %s %s: %s", self.helmr_conn_id, aim, summary(changes))
        # A line at a time: a viewer of logs may wrap or indent messages of several lines.
        for line in table(changes, now, self.preview):
            self.log.info("%s", line)

    def _result(self, changes: list[Change], now: datetime, *, preview_only: bool) -> dict[str, Any]:
        from helmr_provider.schedules._plan import ACTIONS

        return {
            "preview_only": preview_only,
            "dry_run": preview_only,
            "counts": {action: sum(change.action == action for change in changes) for action in ACTIONS},
            "changes": [change.as_data(now, self.preview) for change in changes if change.action != "keep"],
            "unchanged": [change.key for change in changes if change.action == "keep"],
        }


def _is_file(name: str | Path) -> bool:
    return str(name).endswith(_SUFFIXES) and "\n" not in str(name)
