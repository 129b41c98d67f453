"""Reasons that this provider gives for its own cancellations; Helmr keeps them with the run's events."""

from __future__ import annotations

from typing import Final

USER: Final = "the Airflow task was ended by a user"
KILLED: Final = "the Airflow task was killed"
TIME_LIMIT: Final = "the Airflow task has reached its time limit"
FAILED: Final = "the Airflow task has failed"
REPLACED: Final = "replaced by a new try of the Airflow task"
ORPHANED: Final = "the Airflow task is over, but its run was not"

OURS: Final = frozenset({USER, KILLED, TIME_LIMIT, FAILED, REPLACED, ORPHANED})
"""A run that was cancelled for one of these was cancelled by Airflow, whichever process did it."""
