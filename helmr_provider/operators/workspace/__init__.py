"""Operators for workspaces: create, stop and delete them, run commands, read files.

Import the operators from this package; its modules divide the code.
"""

from __future__ import annotations

from helmr_provider.operators.workspace.exec import (
    HelmrExecOperator,
)
from helmr_provider.operators.workspace.files import (
    HelmrListFilesOperator,
    HelmrReadFileOperator,
)
from helmr_provider.operators.workspace.lifecycle import (
    HelmrCreateWorkspaceOperator,
    HelmrDeleteWorkspaceOperator,
    HelmrStopWorkspaceOperator,
)

__all__ = [
    "HelmrCreateWorkspaceOperator",
    "HelmrDeleteWorkspaceOperator",
    "HelmrExecOperator",
    "HelmrListFilesOperator",
    "HelmrReadFileOperator",
    "HelmrStopWorkspaceOperator",
]
