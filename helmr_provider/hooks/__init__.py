"""Airflow hooks for Helmr."""

from __future__ import annotations

from typing import Final

DEFAULT_CONN_ID: Final = "helmr_default"
