"""The plugin costs next to nothing to load, and does nothing where it cannot work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.airflow_ui.conftest import needs_tab

_HEAVY = ("fastapi", "starlette", "httpx", "httpcore", "pydantic", "sqlalchemy", "tenacity")


def run(program: str, **environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **environment},
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_loading_the_plugin_adds_nothing_heavy() -> None:
    program = f"""
import json, sys
import airflow.plugins_manager
from airflow.providers.common.compat.sdk import AirflowPlugin
before = set(sys.modules)
from helmr_provider.airflow_ui.plugin import HelmrPlugin
HelmrPlugin().external_views
added = set(sys.modules) - before
print(json.dumps(sorted(m for m in added if m.split(".")[0] in {_HEAVY!r} or m.startswith("helmr_provider.client"))))
"""
    assert run(program) == []


_DECLARED = """
import json
from helmr_provider.airflow_ui.plugin import HelmrPlugin
plugin = HelmrPlugin()
print(json.dumps([len(plugin.external_views), len(plugin.fastapi_apps)]))
"""


@needs_tab
def test_the_plugin_has_two_tabs_and_one_application() -> None:
    assert run(_DECLARED) == [2, 1]


def test_nothing_is_registered_when_the_environment_switches_the_tab_off() -> None:
    assert run(_DECLARED, HELMR_AIRFLOW_TAB=" OFF ") == [0, 0]


def test_nothing_is_registered_before_the_first_airflow_that_can_show_it() -> None:
    assert run("import airflow; airflow.__version__ = '3.1.0'" + _DECLARED) == [0, 0]


def test_airflow_finds_the_plugin_by_its_entry_point_and_has_no_import_errors() -> None:
    program = """
import json
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
names = [info["name"] for info in plugins_manager.get_plugin_info(["name"])]
errors = getattr(plugins_manager, "get_import_errors", lambda: plugins_manager.import_errors)()
print(json.dumps([names.count("helmr"), [where for where, what in errors.items() if "helmr" in where + str(what)]]))
"""
    assert run(program) == [1, []]


@needs_tab
def test_the_addresses_are_relative_and_their_routes_differ() -> None:
    from helmr_provider.airflow_ui.plugin import VIEWS

    assert [view["destination"] for view in VIEWS] == ["task_instance", "dag_run"]
    assert len({view["url_route"] for view in VIEWS}) == len(VIEWS)
    # A path parameter each: Airflow before 3.1.6 finds the DAG nowhere else.
    assert all(
        view["href"].startswith("helmr/dags/{DAG_ID}/runs/{RUN_ID}") and "?" not in view["href"] for view in VIEWS
    )
