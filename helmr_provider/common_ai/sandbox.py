"""Helmr workspaces as sandboxes of Airflow's common-ai provider: an agent's commands and files in a workspace."""

from __future__ import annotations

import signal
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException

from helmr_provider._logs.exec_logs import PAGE, advances
from helmr_provider._workspaces.ownership import is_busy
from helmr_provider.client.errors import (
    HelmrApiError,
    HelmrConflictError,
    HelmrError,
    HelmrNotFoundError,
    HelmrTimeoutError,
)
from helmr_provider.hooks.helmr import HelmrHook

try:
    from airflow.providers.common.ai.sandbox import (  # type: ignore[import-not-found, unused-ignore]
        AttachableSandboxBackend,
        SandboxError,
        SandboxExecResult,
        SandboxTerminalError,
    )
    from airflow.providers.common.ai.sandbox.base import (  # type: ignore[import-not-found, unused-ignore]
        NETWORK_TAG,
        OWNER_TAG,
        WORKDIR_TAG,
        encode_network_policy,
    )
except ImportError as missing:
    raise AirflowOptionalProviderFeatureException("Install airflow-provider-helmr[common-ai] for this.") from missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.providers.common.ai.sandbox import SandboxSpec  # type: ignore[import-not-found, unused-ignore]

    from helmr_provider.client import ExecHandle, HelmrClient, WorkspaceHandle
    from helmr_provider.client.models.execs import Exec

_TAGS: Final = "airflow_sandbox"
_ENV: Final = "airflow_sandbox_env"
_POLL_SECONDS: Final = 0.2
_END_SECONDS: Final = 120.0
_WRITE_SECONDS: Final = 120.0
_WRITE_BYTES: Final = 1024 * 1024
_ERROR_BYTES: Final = 4096


class HelmrSandboxBackend(AttachableSandboxBackend):  # type: ignore[misc, unused-ignore]
    """Give each sandbox a Helmr workspace, for common-ai's ``SandboxToolset``.

    A workspace can be found again from any task, so it can be attached to: its tags stand in the workspace's metadata,
    member ``airflow_sandbox``.

    - **Network.** Helmr has no network policy for one workspace; the deployed sandbox declares it. A specification that
      blocks the network is accepted only for a sandbox whose declared policy is ``{"internet": false}``, and one with
      a list of allowed addresses never.
    - **Environment.** It is kept in the workspace's metadata and passed to each command, and the control plane shows
      it: no place for secrets.
    - **Timeouts.** A command that takes too long can only be ended by stopping the workspace. That keeps its files: the
      next command starts it again from them. Background processes do not survive it.
    - **Lifetime.** Helmr sets none that a client could choose. The creator of a sandbox must destroy it; one that is
      left behind by a killed worker is found by its external id, which begins with ``airflow-sandbox-``.

    The sandbox needs ``sh``, and for reading files ``stat``, ``head``, ``tail``, ``base64`` and ``find``. Needs the
    scopes ``workspace-lifecycle:manage`` and ``workspace-exec:create``, ``:read`` and ``:manage``.

    :param sandbox_id: the deployed sandbox that workspaces are made of.
    :param workdir: absolute path in which commands run, and to which relative paths belong; it must exist. The
        sandbox's own when left out.
    :param helmr_conn_id: Airflow connection of type ``helmr``.
    """

    name: ClassVar[str] = "helmr"

    def __init__(
        self,
        *,
        sandbox_id: str,
        workdir: str | None = None,
        helmr_conn_id: str = HelmrHook.default_conn_name,
    ) -> None:
        if not sandbox_id:
            raise ValueError("sandbox_id must not be empty.")
        if workdir is not None and not workdir.startswith("/"):
            raise ValueError("workdir must be an absolute path.")
        self._sandbox_id = sandbox_id
        self._workdir = workdir
        self._hook = HelmrHook(helmr_conn_id)

    def create(self, *, spec: SandboxSpec | None = None) -> str:
        """Create a workspace, and return its id.

        :param spec: what it has to be like.
        :raises SandboxTerminalError: it cannot be like that, or cannot be created.
        """
        name = f"airflow-sandbox-{uuid.uuid4().hex}"
        with self._connected() as client:
            if (why := _refusal(spec, client.sandboxes.retrieve(self._sandbox_id).network_policy)) is not None:
                raise SandboxTerminalError(f"A workspace of the Helmr sandbox {self._sandbox_id!r} {why}.")
            env = {} if spec is None or not spec.env else {_ENV: dict(spec.env)}
            created = client.workspaces.create(
                self._sandbox_id,
                external_id=name,
                metadata={_TAGS: self._tags(spec), **env},
                idempotency_key=name,
            )
        return created.id

    def run_command(self, sandbox: str, command: str, *, timeout: float, max_output_bytes: int) -> SandboxExecResult:
        """Run a shell's text in the workspace; see :class:`SandboxBackend`.

        :param sandbox: the workspace.
        :param command: for ``sh -c``.
        :param timeout: seconds; waiting for another command's end included.
        :param max_output_bytes: how much of the end of each output is returned.
        :raises SandboxError: the shell could not be started.
        :raises SandboxTerminalError: the workspace is gone, or its machine has failed.
        """
        return self._run(sandbox, ["sh", "-c", command], timeout=timeout, max_output_bytes=max_output_bytes)

    def write_file(self, sandbox: str, path: str, content: bytes) -> None:
        """Write a file through a command's standard input, of any size.

        :param sandbox: the workspace.
        :param path: where to; folders are made.
        :param content: all of it.
        :raises SandboxError: it could not be written.
        """
        script = 'mkdir -p -- "$(dirname -- "$1")" && cat > "$1"'
        result = self._run(
            sandbox,
            ["sh", "-c", script, "sh", path],
            stdin=content,
            timeout=_WRITE_SECONDS,
            max_output_bytes=_ERROR_BYTES,
        )
        if result.exit_code or result.timed_out:
            raise SandboxError(result.stderr.strip() or f"Could not write {path!r}.")

    def destroy(self, sandbox: str) -> None:
        """Archive the workspace, stopped first; repeating it does no harm.

        :param sandbox: the workspace.
        :raises SandboxTerminalError: it could not be archived.
        """
        give_up = time.monotonic() + _END_SECONDS
        with self._connected() as client:
            while True:
                try:
                    client.workspaces.delete(sandbox)
                except HelmrNotFoundError:
                    return
                except HelmrConflictError:
                    if time.monotonic() > give_up:
                        raise
                    client.workspaces.stop(sandbox)
                    time.sleep(_POLL_SECONDS)
                else:
                    return

    def read_tags(self, sandbox: str) -> Mapping[str, str]:
        """Return the tags of a workspace that is not archived.

        :param sandbox: the workspace.
        :raises SandboxTerminalError: there is none.
        """
        with self._connected() as client:
            tags = self._metadata(client, sandbox).get(_TAGS)
        return {str(name): str(value) for name, value in tags.items()} if isinstance(tags, dict) else {}

    def write_tags(self, sandbox: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of a workspace, and leave its other metadata as they are.

        :param sandbox: the workspace.
        :param tags: all of them.
        :raises SandboxTerminalError: there is no such workspace.
        """
        with self._connected() as client:
            client.workspaces.update(sandbox, metadata={**self._metadata(client, sandbox), _TAGS: dict(tags)})

    def _tags(self, spec: SandboxSpec | None) -> dict[str, str]:
        tags = {} if self._workdir is None else {WORKDIR_TAG: self._workdir}
        if spec is not None:
            tags[NETWORK_TAG] = encode_network_policy(spec)
            if spec.owner is not None:
                tags[OWNER_TAG] = spec.owner
        return tags

    @contextmanager
    def _connected(self) -> Iterator[HelmrClient]:
        """Give a client for one call; the toolset calls from many threads."""
        try:
            with self._hook.settings.client(max_streams=0) as client:
                yield client
        except HelmrError as error:
            # Nothing that a model does differently helps; whether to try again is for Airflow to say.
            raise SandboxTerminalError(f"Helmr (connection {self._hook.helmr_conn_id!r}): {error}") from None

    def _metadata(self, client: HelmrClient, sandbox: str) -> dict[str, Any]:
        workspace = client.workspaces.retrieve(sandbox)
        if workspace.state != "active":
            raise SandboxTerminalError(f"The Helmr workspace {sandbox!r} is {workspace.state}.")
        return workspace.metadata

    def _run(
        self, sandbox: str, argv: Sequence[str], *, timeout: float, max_output_bytes: int, stdin: bytes = b""
    ) -> SandboxExecResult:
        deadline = time.monotonic() + timeout
        with self._connected() as client:
            metadata, workspace = self._metadata(client, sandbox), client.workspaces.open(sandbox)
            tags = metadata.get(_TAGS)
            workdir = tags.get(WORKDIR_TAG) if isinstance(tags, dict) else None
            handle = self._start(workspace, argv, workdir or self._workdir, metadata.get(_ENV), deadline)
            if handle is None:
                return SandboxExecResult(exit_code=-1, stdout="", stderr="", timed_out=True)
            _feed(handle, stdin)
            found = _ended(handle, deadline)
            timed_out = found is None
            if found is None:
                workspace.stop()
                found = _ended(handle, time.monotonic() + _END_SECONDS) or handle.retrieve()
            return _result(handle, found, max_output_bytes, timed_out=timed_out)

    def _start(
        self, workspace: WorkspaceHandle, argv: Sequence[str], cwd: str | None, env: Any, deadline: float
    ) -> ExecHandle | None:
        """Start a command as soon as no other one runs and no stop is under way; ``None`` if that takes too long."""
        # The key makes a lost answer repeatable.
        key = str(uuid.uuid4())
        while True:
            try:
                return workspace.exec(argv, cwd=cwd, env=env if isinstance(env, dict) else None, idempotency_key=key)
            except HelmrApiError as error:
                if not is_busy(error):
                    raise
                if time.monotonic() > deadline:
                    return None
                time.sleep(_POLL_SECONDS)


def _refusal(spec: SandboxSpec | None, network_policy: Any) -> str | None:
    """Say why a specification cannot be kept, if it cannot."""
    if spec is None:
        return None
    if spec.allow_egress_to or spec.allow_egress_to_cidrs:
        return "cannot be limited to some addresses: Helmr has no such policy"
    if spec.block_network and network_policy != {"internet": False}:
        return (
            f"is not cut off from the network, by its declared policy {network_policy!r}: ask for one that is not, "
            "with SandboxSpec(block_network=False), or deploy a sandbox that is"
        )
    return None


def _feed(handle: ExecHandle, content: bytes) -> None:
    try:
        for offset in range(0, len(content), _WRITE_BYTES):
            handle.stdin.write(content[offset : offset + _WRITE_BYTES], offset=offset)
        handle.stdin.close()
    except HelmrConflictError:
        # It has ended without reading; its exit code tells what that means.
        pass


def _ended(handle: ExecHandle, deadline: float) -> Exec | None:
    try:
        return handle.wait(poll_interval=_POLL_SECONDS, timeout=max(_POLL_SECONDS, deadline - time.monotonic()))
    except HelmrTimeoutError:
        return None


def _result(handle: ExecHandle, found: Exec, max_bytes: int, *, timed_out: bool) -> SandboxExecResult:
    error = cast("dict[str, Any]", found.error) if isinstance(found.error, dict) else {}
    if found.state == "failed":
        raise SandboxError(f"The command could not be started: {error.get('message') or error.get('code')}.")
    if not timed_out and found.state != "exited":
        raise SandboxTerminalError(f"The command is {found.state}, with its workspace ({error.get('code')}).")
    code = found.exit_code if found.exit_code is not None else 128 + _number(found.signal)
    (stdout, less_out), (stderr, less_err) = (_end_of(handle, found, each, max_bytes) for each in ("stdout", "stderr"))
    return SandboxExecResult(
        exit_code=code,
        stdout=stdout,
        stderr=stderr,
        timed_out=timed_out,
        stdout_truncated=less_out,
        stderr_truncated=less_err,
    )


def _number(name: str | None) -> int:
    return int(signal.Signals.__members__.get(name or "", 0))


def _end_of(handle: ExecHandle, found: Exec, stream: str, max_bytes: int) -> tuple[str, bool]:
    """Read the end of an output; tell whether there was more before it."""
    total: int = getattr(found, f"{stream}_cursor")
    cursor = first = max(0, total - max_bytes)
    source = handle.stdout if stream == "stdout" else handle.stderr
    content = bytearray()
    while cursor < total and advances(chunks := source.list(cursor=cursor, limit=PAGE), cursor):
        for chunk in chunks:
            content += chunk.content_from(cursor)
            cursor = max(cursor, chunk.offset_end)
    return content[:max_bytes].decode("utf-8", "replace"), first > 0
