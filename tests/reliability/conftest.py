"""The same Airflow and control plane as in the tests of single scenarios, once for all of this folder."""

from __future__ import annotations

from tests.airflow.conftest import client, scenarios, stack

__all__ = ["client", "scenarios", "stack"]
