"""Settings of a control plane under test."""

from __future__ import annotations

from helmr_provider.local import Settings

QUICK = Settings(start_and_wait=2.0, keep_alive=0.2, log_poll=0.05, sweep=0.02)
