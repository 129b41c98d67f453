"""Helmr tasks as managed agents of Airflow's common-ai provider: a question in, a run's output out."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException

from helmr_provider._common.errors import explain, is_permanent, run_failure
from helmr_provider.client.errors import HelmrError
from helmr_provider.hooks.helmr import HelmrHook
from helmr_provider.links import run_url

try:
    from airflow.providers.common.ai.exceptions import (  # type: ignore[import-not-found, unused-ignore]
        ManagedAgentInvocationError,
    )
    from airflow.providers.common.ai.managed_agents.base import (  # type: ignore[import-not-found, unused-ignore]
        BaseManagedAgentHook,
        ManagedAgentCapabilities,
        ManagedAgentRef,
        ManagedAgentResponse,
    )
except ImportError as missing:
    raise AirflowOptionalProviderFeatureException("Install airflow-provider-helmr[common-ai] for this.") from missing

if TYPE_CHECKING:
    from airflow.providers.common.ai.managed_agents.base import (  # type: ignore[import-not-found, unused-ignore]
        ManagedAgentRequest,
    )

    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.sessions import SessionStart

_START_OPTIONS: Final = frozenset(
    {"queue", "concurrency_key", "priority", "ttl", "max_duration", "retry", "metadata", "tags"}
)
# A model must not be able to change what it talks to, nor whose session that is.
_REFUSED: Final = frozenset(
    {"task", "task_id", "agent", "helmr_conn_id", "external_id", "idempotency_key", "session_id", "workspace_id"}
)


class HelmrManagedAgentHook(HelmrHook, BaseManagedAgentHook):  # type: ignore[misc, unused-ignore]
    """Ask Helmr tasks, as common-ai's toolset and failover group ask managed agents.

    An agent is a Helmr task whose payload takes the member ``prompt``, or ``messages``. Each request runs in a session
    of its own, which is closed after the answer, and cancelled when the request's time is over or the caller ends. The
    run's output is the answer: text as it is, anything else as JSON, and as ``structured``.

    Options of the request: those of a session's start (``queue``, ``concurrency_key``, ``priority``, ``ttl``,
    ``max_duration``, ``retry``, ``metadata``, ``tags``); all others become members of the payload.

    Conversations are not offered: which input a Helmr task understands, and which output record answers it, is up to
    each task, so that a ``session_id`` would promise more than holds for all of them. For turns use
    ``HelmrSendInputOperator``. Nothing is ever reported as a request to rephrase, because a failed run does not say so.

    Needs the scopes ``runs:create``, ``runs:manage`` and ``runs:read`` (operations startSession, closeSession,
    cancelSession, getRun).

    :param helmr_conn_id: Airflow connection of type ``helmr``.
    """

    agent_platform: ClassVar[str] = "helmr.task"

    def resolve_agent(self, agent: str) -> ManagedAgentRef:
        """Name a Helmr task as an agent; sends nothing.

        :param agent: the task.
        :raises ValueError: it is blank.
        """
        if not agent.strip():
            raise ValueError("The agent must be the id of a Helmr task.")
        return ManagedAgentRef(platform=self.agent_platform, name=agent)

    def get_agent_capabilities(self, agent: str) -> ManagedAgentCapabilities:  # noqa: ARG002
        """Say what every Helmr task can do; sends nothing.

        :param agent: the task.
        """
        return ManagedAgentCapabilities(structured_output=True, trace=True)

    def invoke_agent(self, agent: str, request: ManagedAgentRequest) -> ManagedAgentResponse:
        """Run the task to its end, and return its output.

        :param agent: the task.
        :param request: what to ask it.
        :raises ManagedAgentInvocationError: the same request would fail again: connection, credential, scope, task.
        :raises AirflowException: the run has failed; another attempt may succeed.
        :raises HelmrError: a request failed, or (HelmrTimeoutError) the request's time is over.
        :raises ValueError: an option would change the prompt.
        """
        if refused := sorted(_REFUSED & request.vendor_options.keys()):
            raise ValueError(f"vendor_options must not have {', '.join(refused)}: they change the prompt.")
        try:
            # Not the hook's client: a model may call several agents at the same time, from several threads.
            with self.settings.client(max_streams=0) as client:
                return self._run_task(client, agent, request)
        except HelmrError as error:
            if is_permanent(error):
                raise ManagedAgentInvocationError(f"Helmr task {agent!r} cannot be asked: {error}") from None
            raise

    def _run_task(self, client: HelmrClient, agent: str, request: ManagedAgentRequest) -> ManagedAgentResponse:
        options = request.vendor_options
        prompt = {"prompt": request.prompt} if request.messages is None else {"messages": list(request.messages)}
        started = client.sessions.start(
            agent,
            {name: value for name, value in options.items() if name not in _START_OPTIONS} | prompt,
            **{name: value for name, value in options.items() if name in _START_OPTIONS},
        )
        try:
            run = client.runs.wait(started.run.id, timeout=request.timeout)
        except BaseException:
            _end(client, started, cancel=True)
            raise
        _end(client, started, cancel=False)
        url = run_url(self.settings.console_url, run.session_id, run.id)
        if run.status == "cancelled":
            raise ManagedAgentInvocationError(explain(client, run, url=url))
        if not run.is_success:
            raise run_failure(client, run, url=url)
        text = run.output if isinstance(run.output, str) else json.dumps(run.output, ensure_ascii=False)
        structured: Any = None if isinstance(run.output, str) else run.output
        return ManagedAgentResponse(text=text, raw=run.raw, structured=structured, trace_ref=run.id)


def _end(client: HelmrClient, started: SessionStart, *, cancel: bool) -> None:
    """Close everything; an error here does not lose an answer."""
    handle = client.sessions.open(started.session.id)
    with suppress(HelmrError):
        if cancel:
            handle.cancel(reason="the caller no longer waits for the answer")
        else:
            handle.close(reason="answered")
