"""Operators for sessions: start one, send input, read output, end runs and sessions, clean up, cancel orphans.

Import the operators from this package; its modules divide the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.operators._lazy import load_at_first_use

if TYPE_CHECKING:
    from helmr_provider.operators.session.cleanup import HelmrCleanupSessionsOperator
    from helmr_provider.operators.session.end import (
        HelmrCancelRunOperator,
        HelmrCancelSessionOperator,
        HelmrCloseSessionOperator,
    )
    from helmr_provider.operators.session.input import HelmrSendInputOperator
    from helmr_provider.operators.session.orphans import HelmrCancelOrphansOperator
    from helmr_provider.operators.session.output import HelmrReadOutputOperator
    from helmr_provider.operators.session.start import HelmrStartSessionOperator
else:
    __getattr__, __dir__ = load_at_first_use(
        __name__,
        {
            "HelmrCancelOrphansOperator": "orphans",
            "HelmrCancelRunOperator": "end",
            "HelmrCancelSessionOperator": "end",
            "HelmrCleanupSessionsOperator": "cleanup",
            "HelmrCloseSessionOperator": "end",
            "HelmrReadOutputOperator": "output",
            "HelmrSendInputOperator": "input",
            "HelmrStartSessionOperator": "start",
        },
    )

__all__ = [
    "HelmrCancelOrphansOperator",
    "HelmrCancelRunOperator",
    "HelmrCancelSessionOperator",
    "HelmrCleanupSessionsOperator",
    "HelmrCloseSessionOperator",
    "HelmrReadOutputOperator",
    "HelmrSendInputOperator",
    "HelmrStartSessionOperator",
]
