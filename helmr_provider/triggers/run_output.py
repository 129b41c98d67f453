"""Earlier path of :mod:`helmr_provider._logs.run_logs_triggerer`."""

from __future__ import annotations

from helmr_provider._logs.run_logs_triggerer import forward_run_logs

__all__ = ["forward_run_logs"]
