"""Earlier path of names in :mod:`helmr_provider.operators.workspace`."""

from __future__ import annotations

from helmr_provider.operators.workspace import HelmrListFilesOperator, HelmrReadFileOperator

__all__ = ["HelmrListFilesOperator", "HelmrReadFileOperator"]
