"""The Airflow plugin. Every process of Airflow loads it, so it imports next to nothing.

Only the entry point ``airflow.plugins`` names it: Airflow reports a plugin that provider information declares, too, as
a duplicate.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, Final

from airflow.providers.common.compat.sdk import AirflowPlugin

from helmr_provider._common.versions import AIRFLOW_V_3_1_1_PLUS

URL_PREFIX: Final = "/helmr"

# An inline picture: a file would need a route that answers without a user.
_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='{colour}' "
    "stroke-width='1.8'%3E%3Ccircle cx='12' cy='12' r='7'/%3E%3Ccircle cx='12' cy='12' r='1.6'/%3E%3Cpath "
    "d='M12 2v20M2 12h20M5 5l14 14M19 5L5 19'/%3E%3C/svg%3E"
)


def _view(destination: str, url_route: str, path: str) -> dict[str, Any]:
    return {
        "name": "Helmr",
        # Without a leading slash, the address is relative to the page's base, also behind a path prefix.
        "href": f"{URL_PREFIX.lstrip('/')}/{path}",
        "destination": destination,
        "url_route": url_route,
        "icon": _ICON.format(colour="%23525252"),
        "icon_dark_mode": _ICON.format(colour="%23d4d4d4"),
    }


# Airflow 3.1.0 keeps the user's token where a framed page cannot use it.
ENABLED: Final = AIRFLOW_V_3_1_1_PLUS and os.environ.get("HELMR_AIRFLOW_TAB", "").strip().lower() != "off"

VIEWS: Final = [
    _view("task_instance", "helmr", "dags/{DAG_ID}/runs/{RUN_ID}/tasks/{TASK_ID}/{MAP_INDEX}"),
    _view("dag_run", "helmr-run", "dags/{DAG_ID}/runs/{RUN_ID}"),
]


class HelmrPlugin(AirflowPlugin):
    """Add the tab *Helmr* to the pages of task instances and DAG runs, on Airflow 3.1.1 and later.

    Older versions of Airflow load the plugin, and it does nothing there. The same holds when the environment variable
    ``HELMR_AIRFLOW_TAB`` is ``off``.
    """

    name = "helmr"
    external_views: list[Any] = VIEWS if ENABLED else []

    @cached_property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """The application, built when the API server asks for it and not when the plugin is loaded."""
        if not ENABLED:
            return []
        from helmr_provider.airflow_ui.app import create_app

        return [{"app": create_app(), "url_prefix": URL_PREFIX, "name": "Helmr"}]
