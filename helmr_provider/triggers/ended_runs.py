"""Earlier path of :mod:`helmr_provider.triggers.events._ended_runs`."""

from __future__ import annotations

from helmr_provider.triggers.events._ended_runs import EndedRuns, Scan

__all__ = ["EndedRuns", "Scan"]
