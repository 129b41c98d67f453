"""Operators for workspaces: create, stop and delete them, run commands, read files.

Import the operators from this package; its modules divide the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.operators._lazy import load_at_first_use

if TYPE_CHECKING:
    from helmr_provider.operators.workspace.exec import HelmrExecOperator
    from helmr_provider.operators.workspace.files import HelmrListFilesOperator, HelmrReadFileOperator
    from helmr_provider.operators.workspace.lifecycle import (
        HelmrCreateWorkspaceOperator,
        HelmrDeleteWorkspaceOperator,
        HelmrStopWorkspaceOperator,
    )
else:
    __getattr__, __dir__ = load_at_first_use(
        __name__,
        {
            "HelmrCreateWorkspaceOperator": "lifecycle",
            "HelmrDeleteWorkspaceOperator": "lifecycle",
            "HelmrExecOperator": "exec",
            "HelmrListFilesOperator": "files",
            "HelmrReadFileOperator": "files",
            "HelmrStopWorkspaceOperator": "lifecycle",
        },
    )

__all__ = [
    "HelmrCreateWorkspaceOperator",
    "HelmrDeleteWorkspaceOperator",
    "HelmrExecOperator",
    "HelmrListFilesOperator",
    "HelmrReadFileOperator",
    "HelmrStopWorkspaceOperator",
]
