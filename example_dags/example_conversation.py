"""Hold a conversation with an agent over several tasks: each asks, and the next step depends on the answer.

Runs unchanged against the local control plane: ``helmr-local serve``, and a connection ``helmr_default`` to it.
"""

from __future__ import annotations

from typing import Any, cast

from airflow.providers.common.compat.sdk import dag, task

from helmr_provider.operators.session import (
    HelmrCloseSessionOperator,
    HelmrSendInputOperator,
    HelmrStartSessionOperator,
)


@dag(schedule=None, tags=["helmr", "example"])
def example_conversation() -> None:
    """Start a session, talk to it in two turns, and close it."""
    start = HelmrStartSessionOperator(
        task_id="start",
        task="conversation",
        payload={"greeting": "Hello from the agent"},
        wait_for_completion=False,
    )
    session_id = cast("Any", start.output)["session_id"]

    # One turn: a message, and the record that answers it. The agent continues and remembers the conversation.
    ask = HelmrSendInputOperator(
        task_id="ask",
        session_id=session_id,
        stream="messages",
        # A task's wait gives it the data, but not the correlation id: the data names the turn too.
        data={"text": "Which changes are risky?", "id": "{{ run_id }}:ask"},
        correlation_id="{{ run_id }}:ask",
        wait_for="output",
        output_stream="messages",
        deferrable=True,
    )

    @task
    def next_question(answer: dict[str, Any]) -> str:
        return f"Why do you say {answer['text']!r}?"

    # The last turn: the message ends the conversation, and the result is the run's return value.
    conclude = HelmrSendInputOperator(
        task_id="conclude",
        session_id=session_id,
        stream="messages",
        data={"text": next_question(cast("dict[str, Any]", ask.output)), "id": "{{ run_id }}:conclude", "end": True},
        correlation_id="{{ run_id }}:conclude",
        wait_for="run",
        deferrable=True,
    )

    close = HelmrCloseSessionOperator(
        task_id="close", session_id=session_id, reason="all was said", wait_for_idle=True, deferrable=True
    )

    conclude >> close


example_conversation()
