"""Earlier path of names in :mod:`helmr_provider.operators.workspace`."""

from __future__ import annotations

from helmr_provider.operators.workspace import HelmrExecOperator

__all__ = ["HelmrExecOperator"]
