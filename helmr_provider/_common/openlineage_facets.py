"""What OpenLineage is told of a session. Imported only where its provider is installed."""

from __future__ import annotations

import attrs
from openlineage.client.facet_v2 import RunFacet  # type: ignore[import-not-found, unused-ignore]


@attrs.define
class HelmrRunFacet(RunFacet):  # type: ignore[misc, unused-ignore]
    """The Helmr run behind a run of an Airflow task.

    :param taskId: id of the Helmr task.
    :param sessionId: its session.
    :param runId: the run.
    :param status: of the run; absent when it is not known to have ended.
    :param consoleUrl: page of the run, if it is known.
    """

    taskId: str  # noqa: N815 - facets are camelCase on the wire
    sessionId: str  # noqa: N815
    runId: str  # noqa: N815
    consoleUrl: str | None = None  # noqa: N815
    status: str | None = None

    _additional_skip_redact = ("taskId", "sessionId", "runId", "consoleUrl", "status")
