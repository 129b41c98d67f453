"""The provider's information for Airflow is true, complete, and valid for the Airflow that is installed."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema  # type: ignore[import-untyped, unused-ignore]
import pytest
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseOperatorLink
from airflow.triggers.base import BaseTrigger

import helmr_provider
from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS
from helmr_provider.get_provider_info import CONNECTION_FIELDS, FIELD_BEHAVIOUR, get_provider_info
from helmr_provider.hooks.connection import EXTRAS


def modules_named(section: str) -> set[str]:
    return {module for entry in get_provider_info()[section] for module in entry["python-modules"]}


def public_classes(package: str, base: type) -> set[type]:
    """The classes below ``base`` that a package defines and a DAG author may import."""
    found = set()
    for info in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        try:
            module = importlib.import_module(info.name)
        except ModuleNotFoundError as missing:
            # Used by others of ours where Airflow is new enough for it.
            if (missing.name or "").startswith("airflow."):
                continue
            raise
        for name, cls in inspect.getmembers(module, inspect.isclass):
            private = name.startswith("_") or info.name.rpartition(".")[2].startswith("_")
            if issubclass(cls, base) and cls.__module__ == info.name and not private:
                found.add(cls)
    return found


@pytest.mark.parametrize("section", ["operators", "sensors", "triggers", "hooks"])
def test_every_module_named_exists_and_every_public_class_is_in_a_named_one(section: str) -> None:
    base = {"operators": BaseOperator, "sensors": BaseOperator, "triggers": BaseTrigger, "hooks": BaseHook}[section]
    named = modules_named(section)
    for module in named:
        assert isinstance(importlib.import_module(module), ModuleType)
    defined = public_classes(f"helmr_provider.{section}", base)
    reached = {module: set(inspect.getmembers(importlib.import_module(module), inspect.isclass)) for module in named}
    reachable = {cls for classes in reached.values() for _, cls in classes}
    # The base class of triggers is public, too.
    assert {cls for cls in defined - reachable if cls.__module__ != f"helmr_provider.{section}.base"} == set()
    # No module is named for nothing.
    assert [module for module, classes in reached.items() if not defined & {cls for _, cls in classes}] == []


def test_every_link_is_named_and_exists() -> None:
    links = importlib.import_module("helmr_provider.links")
    public = {
        f"helmr_provider.links.{name}"
        for name, cls in inspect.getmembers(links, inspect.isclass)
        if issubclass(cls, BaseOperatorLink) and cls is not BaseOperatorLink and not name.startswith("_")
    }
    assert set(get_provider_info()["extra-links"]) == public


def test_the_hook_class_is_the_one_of_the_connection_type() -> None:
    [connection_type] = get_provider_info()["connection-types"]
    module, name = connection_type["hook-class-name"].rsplit(".", 1)
    hook = getattr(importlib.import_module(module), name)
    assert hook.conn_type == connection_type["connection-type"]
    assert hook.hook_name == connection_type["hook-name"]


def test_the_form_has_a_field_for_every_extra_and_no_other() -> None:
    assert set(CONNECTION_FIELDS) == EXTRAS


def test_the_form_hides_or_keeps_only_fields_that_connections_have() -> None:
    standard = {"description", "host", "port", "login", "password", "schema", "extra"}
    assert set(FIELD_BEHAVIOUR["hidden-fields"]) <= standard
    assert set(FIELD_BEHAVIOUR["relabeling"]) <= standard
    assert set(FIELD_BEHAVIOUR["placeholders"]) <= standard


def test_the_guides_and_the_logo_exist() -> None:
    root = Path(helmr_provider.__file__).parents[1]
    [integration] = get_provider_info()["integrations"]
    guides = [root / path.lstrip("/") for path in integration["how-to-guide"]]
    logo = root / "docs" / integration["logo"].lstrip("/")
    assert [path for path in [*guides, logo] if not path.exists()] == []


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 does not ship the schema")
def test_the_integration_is_valid_by_the_schema_of_provider_sources() -> None:
    whole = schema("provider.yaml.schema.json")
    jsonschema.validate(get_provider_info()["integrations"], whole["properties"]["integrations"])


def schema(name: str) -> dict[str, Any]:
    return json.loads(resources.files("airflow").joinpath(name).read_text())  # type: ignore[no-any-return]


def test_the_info_is_valid_at_run_time() -> None:
    jsonschema.validate(get_provider_info(), schema("provider_info.schema.json"))


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 does not ship the schema that describes the form")
def test_the_form_is_valid_by_the_schema_that_describes_forms() -> None:
    whole = schema("provider.yaml.schema.json")
    connection_types = {**whole["properties"]["connection-types"], "definitions": whole.get("definitions", {})}
    jsonschema.validate(get_provider_info()["connection-types"], connection_types)
    [connection_type] = get_provider_info()["connection-types"]
    known = connection_types["items"]["properties"]
    if not {"conn-fields", "hook-name"} <= set(known):
        pytest.skip("this Airflow takes the form from the hook, or its schema is incomplete")
    assert set(connection_type) <= set(known), "a misspelt member would be ignored"


@pytest.mark.filterwarnings("ignore:ProvidersManager.hooks is deprecated")  # the successor is not in Airflow 2
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from the form library of Airflow 2, at its first import
def test_airflow_finds_the_provider_with_its_links() -> None:
    from airflow.providers_manager import ProvidersManager

    manager: Any = ProvidersManager()  # type: ignore[no-untyped-call, unused-ignore]
    assert manager.providers["airflow-provider-helmr"].version == helmr_provider.__version__
    assert dict(manager.hooks)["helmr"].hook_class_name == "helmr_provider.hooks.helmr.HelmrHook"
    assert set(get_provider_info()["extra-links"]) <= set(manager.extra_links_class_names)


@pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="the form of Airflow 2")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from the form library, at its first import
def test_airflow_2_shows_the_form() -> None:
    from airflow.providers_manager import ProvidersManager

    manager: Any = ProvidersManager()  # type: ignore[no-untyped-call, unused-ignore]
    widgets = manager.connection_form_widgets
    assert {f"extra__helmr__{name}" for name in CONNECTION_FIELDS} <= set(widgets)
    assert manager.field_behaviours["helmr"]["relabeling"]["password"] == "API key"


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow 3.0 shows it only beside Flask-AppBuilder")
def test_airflow_3_shows_the_form() -> None:
    # In a process of its own, as Airflow puts stand-ins for the form library of Airflow 2 among the modules.
    program = """
import json
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
[form] = [form for form in HookMetaService.hook_meta_data() if form.connection_type == "helmr"]
print(json.dumps([sorted(form.extra_fields), form.standard_fields.password.title, form.hook_name]))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout.splitlines()[-1]) == [sorted(CONNECTION_FIELDS), "API key", "Helmr"]


def test_the_entry_point_leads_to_the_info() -> None:
    [entry_point] = [
        point
        for point in metadata.distribution("airflow-provider-helmr").entry_points
        if point.group == "apache_airflow_provider"
    ]
    assert entry_point.load() is get_provider_info
