"""Operators for sessions: start one, send input, read output, end runs and sessions, clean up, cancel orphans.

Import the operators from this package; its modules divide the code.
"""

from __future__ import annotations

from helmr_provider.operators.session.cleanup import (
    HelmrCleanupSessionsOperator,
)
from helmr_provider.operators.session.end import (
    HelmrCancelRunOperator,
    HelmrCancelSessionOperator,
    HelmrCloseSessionOperator,
)
from helmr_provider.operators.session.input import (
    HelmrSendInputOperator,
)
from helmr_provider.operators.session.orphans import (
    HelmrCancelOrphansOperator,
)
from helmr_provider.operators.session.output import (
    HelmrReadOutputOperator,
)
from helmr_provider.operators.session.start import (
    HelmrStartSessionOperator,
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
