"""Run a command in a workspace, with its output in the task's log."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, PokeReturnValue

from helmr_provider._common.cleanup import clean_up
from helmr_provider._common.errors import IdentityError
from helmr_provider._common.results import ResultOptions
from helmr_provider._common.template_fields import TemplateField, text, text_mapping, texts
from helmr_provider._common.validation import require_id
from helmr_provider._logs.exec_logs import PAGE, STREAMS, Output, advances, read_bytes
from helmr_provider._sessions.identity import OwnershipMetadata, owner_of
from helmr_provider._workspaces.ownership import MARK, hold, is_busy, left_over_exec, refuse_given_up, stop_if_held
from helmr_provider.client.errors import (
    HelmrApiError,
    HelmrConflictError,
    HelmrError,
    HelmrGoneError,
    HelmrPermissionError,
)
from helmr_provider.links import HelmrWorkspaceLink, store_workspace_link, workspace_url
from helmr_provider.operators._base import HelmrWaitingOperator

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from helmr_provider.client import ExecHandle, WorkspaceHandle
    from helmr_provider.client._sync.byte_streams import ByteStream
    from helmr_provider.client.models.execs import Exec
    from helmr_provider.triggers.base import HelmrTrigger

_WRITE_BYTES: Final = 1024 * 1024
_TAIL_BYTES: Final = 4096
_TAIL_LINES: Final = 15
_SHOWN_COMMAND: Final = 200
_MORE_GENERATIONS: Final = 3
_MISMATCH: Final = "idempotency_fingerprint_mismatch"


class HelmrExecOperator(ResultOptions, HelmrWaitingOperator):
    """Run a command in a workspace, and wait for its end.

    Its output appears in the task's log line by line, also while the task is deferred; lines of stderr begin with
    ``stderr:``. A command that does not exit with 0 fails the task with its last lines.

    A retry adopts the command of an earlier try if it is still running or has succeeded. A failed command runs again,
    and so does every command of a cleared task. The control plane keeps the idempotency key for this for a day.

    A command ends only with its workspace. If the task is killed or reaches its limit, the operator stops the
    workspace, provided that a task of the same DAG run created it (:class:`HelmrCreateWorkspaceOperator` without an
    ``external_id``) and this try's command still runs in it.

    XComs pushed at the start: ``workspace_id``, ``exec_id``.

    Needs the scopes ``workspace-exec:create``, ``workspace-exec:read`` and ``workspace-exec:manage`` (operations
    createWorkspaceExec, listWorkspaceExecs, getWorkspaceExec, listWorkspaceExecStdout, listWorkspaceExecStderr,
    writeWorkspaceExecStdin, closeWorkspaceExecStdin), and for ``stop_on_kill`` ``workspace-lifecycle:manage``
    (getWorkspace, patchWorkspace, stopWorkspace).

    .. seealso:: Guide: :doc:`/how-to/workspaces`

    :param workspace_id: the workspace. (templated)
    :param command: program and arguments, which no shell reads; or one text for ``sh -c``. Other tasks' data belongs
        into ``env`` or ``stdin`` rather than into a shell's text. (templated)
    :param cwd: absolute path to start in; the workspace's own directory by default. (templated)
    :param env: more environment variables. The control plane stores and shows them: not for secrets. (templated)
    :param stdin: standard input of the command, text or bytes. Default: empty. Templating drops the
        last line end of a text. (templated)
    :param wait_for_writer: whether to wait while a run, another command or a terminal writes to the workspace, or it is
        being stopped; ``False`` fails the try instead.
    :param stop_on_kill: whether to stop the workspace, as above, when the task is killed or reaches its limit.
    :param log_output: whether to log the command's output. Default: True.
    :param result: what to return: the ``"exit_code"``, or all of ``"stdout"`` as text.
    :param max_result_bytes: largest stdout that may become an XCom; ``None`` for no limit.
    :param result_to: path or address such as ``"s3://bucket/result.txt"`` to write all of stdout to, instead of
        returning it; one that ends with ``/`` gets a file name. The return value is the address then. (templated)
    :param result_to_conn_id: Airflow connection for ``result_to``.
    :param deferrable: whether to wait in the triggerer, without a worker. By default as configured for Airflow.
    :param timeout: limit of the wait, also while deferred; timedelta, seconds, or text such as ``"1h"``, from the start
        of the try. An ``execution_timeout`` that is earlier counts.
    :param helmr_conn_id: Airflow connection of type ``helmr``. (templated)
    :raises AirflowException: the command failed, was lost with its machine, or could not be started.
    :raises AirflowFailException: the workspace was stopped from elsewhere or is archived, or stdout is too large.
    :raises AirflowTaskTimeout: it had not ended within the limit.
    """

    workspace_id = TemplateField[str](text)
    command = TemplateField["Sequence[str] | str"](texts)
    cwd = TemplateField[str | None](text)
    env = TemplateField["Mapping[str, str] | None"](text_mapping)
    stdin = TemplateField["str | bytes | None"](text)

    template_fields: Collection[str] = ("workspace_id", "command", "cwd", "env", "stdin", "result_to", "helmr_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"command": "bash", "env": "json"}
    operator_extra_links = (HelmrWorkspaceLink(),)
    ui_color = "#e2f2ea"

    def __init__(
        self,
        *,
        workspace_id: str,
        command: Sequence[str] | str,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        wait_for_writer: bool = True,
        stop_on_kill: bool = True,
        log_output: bool = True,
        result: Literal["exit_code", "stdout"] = "exit_code",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.workspace_id = workspace_id
        self.command = command
        self.cwd = cwd
        self.env = env
        self.stdin = stdin
        self.wait_for_writer = wait_for_writer
        self.stop_on_kill = stop_on_kill
        self.log_output = log_output
        self.result: Literal["exit_code", "stdout"] = result
        self.exec_id: str | None = None
        self._owner: str | None = None
        self._output: Output | None = None
        self._waits_for_writer = False
        self._stopped = False
        if result not in {"exit_code", "stdout"}:
            raise ValueError("result must be 'exit_code' or 'stdout'")
        if self.result_to is not None and result != "stdout":
            raise ValueError("result_to writes stdout, so it goes with result='stdout'")

    @property
    def awaited(self) -> str:
        """Human-readable description of the awaited resource."""
        return f"command {_shown(self._argv)} in Helmr workspace {self.workspace_id}"

    def submit(self, context: Context) -> dict[str, Any]:
        """Start the command, or adopt what an earlier try has started; neither, while another client writes.

        :param context: of the task instance.
        :raises AirflowFailException: it cannot be started at all.
        """
        ids = {"workspace_id": require_id("workspace_id", self.workspace_id)}
        if self.do_xcom_push:
            context["ti"].xcom_push(key="workspace_id", value=ids["workspace_id"])
        url = self.hook.settings.console_url
        store_workspace_link(context, console_url=url, workspace_id=ids["workspace_id"])
        self._start(context, ids)
        return ids

    def poll(self, context: Context, ids: dict[str, Any]) -> PokeReturnValue:
        """Read the command, log what it has written, and judge its end.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        if "exec_id" not in ids:
            self._start(context, ids)
            if "exec_id" not in ids:
                return PokeReturnValue(is_done=False)
        self.exec_id, self._owner = ids["exec_id"], owner_of(context["ti"])
        handle = self._workspace(ids).execs.open(ids["exec_id"])
        found = handle.retrieve()
        self._forward(handle, found, ids)
        if not found.is_terminal:
            return PokeReturnValue(is_done=False)
        self.exec_id = None
        if found.is_success:
            return PokeReturnValue(is_done=True, xcom_value=self._result(handle, found))
        raise self._failure(handle, found)

    def trigger(self, ids: dict[str, Any], deadline: float | None) -> HelmrTrigger:
        """Return the trigger that waits.

        :param ids: as returned by :meth:`submit`.
        :param deadline: when to give up, in seconds since the epoch; ``None`` for never.
        """
        from helmr_provider.triggers.workspace import HelmrExecTrigger, HelmrWorkspaceTrigger

        if "exec_id" not in ids:
            return HelmrWorkspaceTrigger(
                helmr_conn_id=self.helmr_conn_id, workspace_id=ids["workspace_id"], what="free", deadline=deadline
            )
        return HelmrExecTrigger(
            helmr_conn_id=self.helmr_conn_id,
            **ids,
            log_output=self.log_output,
            owner=self._owner,
            stop_on_kill=self.stop_on_kill,
            deadline=deadline,
        )

    def take_over(
        self, context: Context, ids: dict[str, Any] | None, event: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Become responsible for the command, and continue its log where the trigger has stopped.

        :param context: of the task instance.
        :param ids: as of the deferral; ``None`` in ``dag.test()``.
        :param event: of the trigger.
        """
        read = {name: value for name, value in event.items() if name in _IDS}
        if ids is None or ids.get("exec_id") == read.get("exec_id"):
            ids = {**(ids or {}), **read} or None
        if ids is not None and "exec_id" in ids:
            self.exec_id, self._owner = ids["exec_id"], owner_of(context["ti"])
        return super().take_over(context, ids, event)

    def recover(self, context: Context) -> dict[str, Any] | None:
        """Find the last command of this task instance by its mark; start none.

        :param context: of the task instance.
        """
        ids = {"workspace_id": require_id("workspace_id", self.workspace_id)}
        marked = self._marked(self._workspace(ids))
        # A generation more than there were tries: a task that is cleared while it runs keeps its epoch.
        for generation in range(context["ti"].try_number + 1, 0, -1):
            if (found := marked.get(self._key(context, generation))) is not None:
                # What it wrote before is in the log, as far as the lost trigger got.
                read = {f"{stream}_cursor": getattr(found, f"{stream}_cursor") for stream in STREAMS}
                return {**ids, "exec_id": found.id, **read}
        return None

    def on_time_limit(self, context: Context, ids: dict[str, Any]) -> str:
        """Stop the workspace, if the command in it is ours to end.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        if "exec_id" not in ids:
            return "It was not started, because something else still writes to the workspace."
        self.exec_id, self._owner = ids["exec_id"], owner_of(context["ti"])
        return "It was stopped with its workspace." if self._stop() else "It continues, and a retry finds it again."

    def on_lost_trigger(self, context: Context, ids: dict[str, Any]) -> str:
        """Stop the workspace, unless a retry will find the command again.

        :param context: of the task instance.
        :param ids: as returned by :meth:`submit`.
        """
        if context["ti"].try_number > context["ti"].max_tries:
            return self.on_time_limit(context, ids)
        return "It continues, and a retry finds it again."

    def stop(self, reason: str) -> None:
        """Stop the workspace, if the command in it belongs to this try.

        :param reason: unused; a stop of a workspace keeps none.
        """
        del reason
        self._stop()

    @property
    def _argv(self) -> list[str]:
        return ["sh", "-c", self.command] if isinstance(self.command, str) else list(self.command)

    def _workspace(self, ids: Mapping[str, Any]) -> WorkspaceHandle:
        return self.hook.client.workspaces.open(ids["workspace_id"])

    def _key(self, context: Context, generation: int) -> str:
        return self._once_key(context, "exec", str(generation))

    def _start(self, context: Context, ids: dict[str, Any]) -> None:
        """Start or adopt the command, and note its id; note none while the workspace is busy."""
        workspace = self._workspace(ids)
        stamp = OwnershipMetadata.of(context["ti"], context["dag_run"])
        if self.stop_on_kill:
            # A key that may not read the workspace is reported when the command is there.
            with suppress(HelmrPermissionError):
                refuse_given_up(self.hook.client, workspace.id, stamp)
        found = self._adopt_or_create(context, workspace)
        if found is None:
            return
        ids["exec_id"] = found.id
        if self.stop_on_kill and not found.is_terminal:
            self._note_owner(workspace.id, found.id, stamp)
        self.exec_id, self._owner = found.id, stamp.owner
        if self.do_xcom_push:
            context["ti"].xcom_push(key="exec_id", value=found.id)
        self._check_killed()
        self._feed(workspace.execs.open(found.id), found)

    def _adopt_or_create(self, context: Context, workspace: WorkspaceHandle) -> Exec | None:
        generation, last = 1, None
        # Each try starts at most one command, and a task that is cleared while it runs keeps its epoch.
        for _ in range(context["ti"].try_number + _MORE_GENERATIONS):
            found = self._create(workspace, self._key(context, generation))
            if found is None:
                return None
            if not found.is_cached:
                self.log.info("Exec %s of workspace %s: %s", found.id, workspace.id, _shown(self._argv))
                return found
            if found.is_terminal and not found.is_success:
                # One list shows which commands earlier tries have started, so that not each one costs a request.
                if last is None:
                    last = self._last_generation(context, workspace)
                generation = max(generation + 1, last)
                continue
            if not found.is_terminal and workspace.retrieve().desired_state == "stopped":
                self._note_busy(workspace, "the command of an earlier try is being ended with its workspace")
                return None
            self.log.info("Adopted exec %s of an earlier try instead of running the command again.", found.id)
            return found
        raise AirflowException(
            f"The {self.awaited} was not started: more commands of this task have failed than it had tries. "
            "Clear the task to run the command anew."
        )

    def _last_generation(self, context: Context, workspace: WorkspaceHandle) -> int:
        """Return the last generation that is among the newest commands, 0 if none is."""
        marked = self._marked(workspace)
        generations = range(context["ti"].try_number + _MORE_GENERATIONS, 0, -1)
        return next((each for each in generations if self._key(context, each) in marked), 0)

    def _create(self, workspace: WorkspaceHandle, key: str) -> Exec | None:
        """Create the command of a key, or find it; ``None`` while the workspace is busy."""
        try:
            created = workspace.exec(
                self._argv, cwd=self.cwd, env={**(self.env or {}), MARK: key}, idempotency_key=key
            ).initial
        except (TypeError, ValueError) as error:
            raise AirflowFailException(f"The {self.awaited} was not started: {error}") from None
        except HelmrApiError as error:
            if is_busy(error):
                self._note_busy(workspace, error)
                return None
            # Of a command, the server says this with a 500 (contract/behaviour.md section 21.6).
            found = self._marked(workspace).get(key) if error.code == _MISMATCH else None
            if found is None:
                raise
            self.log.warning(
                "Exec %s of an earlier try was started with another command or environment than this try would use. "
                "What changes from try to try holds something like the time or the try number.",
                found.id,
            )
            return found.model_copy(update={"is_cached": True})
        return created

    def _note_busy(self, workspace: WorkspaceHandle, why: object) -> None:
        if not self.wait_for_writer:
            raise AirflowException(f"The {self.awaited} was not started: {why}") from None
        if not self._waits_for_writer:
            self._waits_for_writer = True
            self.log.info("Workspace %s is busy, waiting until it is free: %s", workspace.id, why)

    def _marked(self, workspace: WorkspaceHandle) -> dict[str, Exec]:
        """Return the newest commands of the workspace that Airflow tasks have started, by their keys."""
        found = workspace.execs.list(limit=200)
        return {each.env_shape[MARK]: each for each in found if MARK in each.env_shape}

    def _note_owner(self, workspace_id: str, exec_id: str, stamp: OwnershipMetadata) -> None:
        try:
            ours = hold(self.hook.client, workspace_id, stamp, self.hook.settings.session_prefix)
        except HelmrPermissionError as error:
            self.log.warning("The command will continue if this task is killed: %s", error)
            return
        except IdentityError:
            self.log.warning("Left over: %s", left_over_exec(workspace_id, exec_id))
            raise
        if not ours:
            self.log.info(
                "No task of this DAG run has created workspace %s: if this task is killed, the command continues.",
                workspace_id,
            )

    def _feed(self, handle: ExecHandle, found: Exec) -> None:
        """Write the rest of standard input, and close it: a command that reads must not wait for ever."""
        if found.is_terminal or found.stdin_closed_at is not None:
            return
        data = self.stdin.encode() if isinstance(self.stdin, str) else self.stdin or b""
        try:
            for offset in range(found.stdin_cursor, len(data), _WRITE_BYTES):
                handle.stdin.write(data[offset : offset + _WRITE_BYTES], offset=offset)
            handle.stdin.close()
        except HelmrConflictError as error:
            if self.stdin:
                self.log.info("The command has not taken all of its standard input: %s", error)

    def _forward(self, handle: ExecHandle, found: Exec, ids: dict[str, Any]) -> None:
        if not self.log_output:
            return
        output = self._output
        if output is None:
            output = self._output = Output(*(ids.get(f"{stream}_cursor", 0) for stream in STREAMS))
        for stream in STREAMS:
            while output.is_behind(stream, found) and (lines := self._next_lines(handle, output, stream, found)):
                for line in lines:
                    self.log.info("%s", line)
        if found.is_terminal:
            for line in output.end():
                self.log.info("%s", line)
        ids.update({f"{stream}_cursor": cursor for stream, cursor in output.cursors.items()})

    def _next_lines(self, handle: ExecHandle, output: Output, stream: str, found: Exec) -> Iterable[str] | None:
        position = output.position(stream)
        try:
            chunks = _source(handle, stream).list(cursor=position, limit=PAGE)
        except HelmrGoneError:
            return output.skip(stream, found)
        return output.take(stream, chunks) if advances(chunks, position) else None

    def _result(self, handle: ExecHandle, found: Exec) -> Any:
        if self.result == "exit_code":
            return found.exit_code
        limit = self._max_xcom_bytes
        if limit is not None and found.stdout_cursor > limit:
            raise AirflowFailException(
                f"The command has written {found.stdout_cursor} bytes to stdout, more than "
                f"max_result_bytes={limit}. Write it to a path or object storage with result_to, or "
                "raise max_result_bytes if your XCom backend can hold it."
            )
        content = read_bytes(handle.stdout)
        if self.result_to is None:
            return content.decode("utf-8", "replace")
        return self._write_result(content, f"{found.id}.txt")

    def _failure(self, handle: ExecHandle, found: Exec) -> AirflowException:
        lines = [f"Helmr exec {found.id} ({_shown(found.command)}) {_ending(found, ours=self._stopped)}."]
        written = next((stream for stream in ("stderr", "stdout") if getattr(found, f"{stream}_cursor")), None)
        # Without them, only the reason is shorter.
        with suppress(HelmrError):
            if written is not None:
                text = read_bytes(_source(handle, written), max(0, getattr(found, f"{written}_cursor") - _TAIL_BYTES))
                last = text.decode("utf-8", "replace").strip().splitlines()[-_TAIL_LINES:]
                lines += [f"Last lines of {written}:", *(f"  {line}" for line in last)]
        lines.append(f"See {workspace_url(self.hook.settings.console_url, found.workspace_id)}")
        by_other_client = found.state == "terminated" and not self._stopped
        return (AirflowFailException if by_other_client else AirflowException)("\n".join(lines))

    def _stop(self) -> bool:
        """Stop the workspace if that is wanted and ours to do; either way this try owns it no longer."""
        exec_id, self.exec_id = self.exec_id, None
        if exec_id is None or self._owner is None or not self.stop_on_kill:
            return False
        owner = self._owner

        def stop() -> bool:
            # Not the hook's client: a signal may have stopped that in the middle of a request, with its locks held.
            with self.hook.settings.client(max_streams=0) as client:
                return stop_if_held(client, workspace_id=self.workspace_id, exec_id=exec_id, owner=owner)

        stopped = clean_up(stop, log=self.log, left_over=left_over_exec(self.workspace_id, exec_id))
        if stopped is not None:
            self._stopped = stopped
            self.log.info("Exec %s was %s.", exec_id, "stopped with its workspace" if stopped else "left alone")
        return self._stopped


_IDS: Final = frozenset({"workspace_id", "exec_id", "stdout_cursor", "stderr_cursor"})


def _shown(command: Iterable[str]) -> str:
    text = shlex.join(map(str, command))
    return text if len(text) <= _SHOWN_COMMAND else f"{text[:_SHOWN_COMMAND]}…"


def _ending(found: Exec, *, ours: bool) -> str:
    error: Any = found.error if isinstance(found.error, dict) else {}
    match found.state:
        case "exited" if found.exit_code is not None:
            return f"exited with code {found.exit_code}"
        case "exited":
            ending = f"was ended by the signal {found.signal}"
        case "failed":
            ending = f"could not be started: {error.get('message') or 'no reason given'}"
        case "lost":
            ending = "is lost, and so is what it had written since the last capture: its machine failed"
        case "terminated" if ours:
            ending = "was ended with its workspace, because the Airflow task was ended"
        case "terminated":
            ending = "was ended with its workspace, which another client has stopped"
        case state:
            ending = f"ended as {state!r}"
    return f"{ending} ({error['code']})" if error.get("code") else ending


def _source(handle: ExecHandle, stream: str) -> ByteStream:
    return handle.stdout if stream == "stdout" else handle.stderr
