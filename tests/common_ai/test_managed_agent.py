"""Helmr tasks as managed agents, against the contract of the common-ai provider's own classes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("airflow.providers.common.ai.managed_agents", reason="needs the extra common-ai")

from airflow.providers.common.ai.exceptions import (  # type: ignore[import-not-found, unused-ignore]
    ManagedAgentInvocationError,
)
from airflow.providers.common.ai.managed_agents import (  # type: ignore[import-not-found, unused-ignore]
    BaseManagedAgentHook,
    FailoverManagedAgentClient,
    ManagedAgentClient,
    ManagedAgentRequest,
)
from airflow.providers.common.compat.sdk import AirflowException

from helmr_provider.client import HelmrTimeoutError
from helmr_provider.common_ai.managed_agent import HelmrManagedAgentHook
from tests.support.journal import requests_of
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")


def ask(agent: str, prompt: str = "hello", **options: Any) -> Any:
    return HelmrManagedAgentHook().agent(agent).invoke(ManagedAgentRequest(prompt=prompt, **options))


def test_it_is_what_the_toolset_and_the_failover_group_take() -> None:
    hook = HelmrManagedAgentHook()
    assert isinstance(hook, BaseManagedAgentHook)
    assert isinstance(hook.agent("echo"), ManagedAgentClient)


def test_naming_an_agent_and_its_abilities_sends_nothing(control_plane: LocalControlPlane) -> None:
    agent = HelmrManagedAgentHook("nowhere").agent("echo")
    assert (agent.ref.platform, agent.ref.name, agent.ref.version) == ("helmr.task", "echo", None)
    assert (agent.capabilities.sessions, agent.capabilities.structured_output, agent.capabilities.trace) == (
        False,
        True,
        True,
    )
    assert control_plane.journal == []


def test_the_output_of_the_run_is_the_answer_and_its_session_is_closed(client: HelmrClient) -> None:
    answer = ask("echo", "what?", vendor_options={"depth": 2, "tags": ["asked"]})
    assert answer.structured == {"prompt": "what?", "depth": 2}
    assert answer.text == '{"depth": 2, "prompt": "what?"}'
    assert answer.raw["status"] == "succeeded"
    assert client.runs.retrieve(answer.trace_ref).is_success
    [session] = client.sessions.list()
    assert (session.status, session.tags) == ("closed", ("asked",))


def test_messages_are_handed_on_as_they_are() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    answer = HelmrManagedAgentHook().agent("echo").invoke(ManagedAgentRequest(messages=messages))
    assert answer.structured == {"messages": messages}


@pytest.mark.parametrize("option", ["task", "external_id", "session_id", "workspace_id", "helmr_conn_id"])
def test_what_would_change_who_is_asked_is_refused(control_plane: LocalControlPlane, option: str) -> None:
    with pytest.raises(ValueError, match=option):
        ask("echo", vendor_options={option: "x"})
    assert requests_of(control_plane, "startSession") == []


def test_a_conversation_is_refused_instead_of_begun_anew() -> None:
    with pytest.raises(ValueError, match="does not keep conversation state"):
        ask("echo", session_id="x")


def test_a_task_that_is_not_deployed_is_terminal() -> None:
    with pytest.raises(ManagedAgentInvocationError, match="task_not_deployed"):
        ask("nobody")


def test_a_refused_key_is_terminal(control_plane: LocalControlPlane, connect: Callable[..., str]) -> None:
    connect(host=control_plane.url, password="hlmr_sk_wrongwrongwrongwrong")
    with pytest.raises(ManagedAgentInvocationError, match="401"):
        ask("echo")


def test_an_outage_is_not(control_plane: LocalControlPlane) -> None:
    control_plane.stop_listening()
    with pytest.raises(Exception, match="startSession") as failed:
        ask("echo")
    assert not isinstance(failed.value, ManagedAgentInvocationError)


def test_a_failed_run_says_why_and_is_worth_a_retry(client: HelmrClient) -> None:
    with pytest.raises(AirflowException, match="failed") as failed:
        ask("fail")
    assert not isinstance(failed.value, ManagedAgentInvocationError)
    assert [session.status for session in client.sessions.list()] == ["closed"]


def test_a_request_that_takes_too_long_is_cancelled(client: HelmrClient) -> None:
    with pytest.raises(HelmrTimeoutError):
        ask("work", vendor_options={"seconds": 3600, "waiting": True}, timeout=0.5)
    assert [session.status for session in client.sessions.list()] == ["cancelled"]


def test_a_run_that_another_client_cancels_is_terminal(client: HelmrClient) -> None:
    def cancel() -> None:
        until(client.runs.list)
        client.runs.cancel(client.runs.list()[0].id)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(ManagedAgentInvocationError, match="cancelled by another client"):
        ask("work", vendor_options={"seconds": 3600, "waiting": True})
    canceller.join()


def test_a_failover_group_moves_on_to_the_next_task() -> None:
    hook = HelmrManagedAgentHook()
    group = FailoverManagedAgentClient([hook.agent("fail"), hook.agent("echo")])
    assert group.invoke(ManagedAgentRequest(prompt="hi")).structured == {"prompt": "hi"}
