"""Files of workspaces: to XCom within a limit, or to a path; from the version that was asked for."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from helmr_provider._common.versions import AIRFLOW_V_3_1_PLUS
from helmr_provider.operators.workspace import (
    HelmrListFilesOperator,
    HelmrReadFileOperator,
    HelmrStopWorkspaceOperator,
)
from tests.support.journal import requests_of
from tests.support.workspace_tasks import a_workspace, an_exec, task_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")

MADE = """
mkdir -p docs; printf 'caf\\303\\251' > docs/a.txt; printf '{"n": [1, null]}' > docs/b.json; printf '\\377' > docs/c.bin
ln -s a.txt docs/link; chmod 600 docs/c.bin
"""


@pytest.fixture
def workspace(client: HelmrClient) -> str:
    """A workspace whose files were captured."""
    created = a_workspace(client)
    an_exec(created, MADE).start().finish()
    task_run(HelmrStopWorkspaceOperator, workspace_id=created).start().finish()
    return created


def read(workspace_id: Any, path: str, **options: Any) -> Any:
    return task_run(HelmrReadFileOperator, workspace_id=workspace_id, path=path, **options).start().execute()


def listed(workspace_id: str, path: str = "", **options: Any) -> Any:
    return task_run(HelmrListFilesOperator, workspace_id=workspace_id, path=path, **options).start().execute()


@pytest.mark.parametrize(
    ("path", "encoding", "content"),
    [
        ("docs/a.txt", "text", "café"),
        ("docs/b.json", "json", {"n": [1, None]}),
        ("docs/c.bin", "base64", "/w=="),
    ],
)
def test_a_file_is_returned_as_asked_for(workspace: str, path: str, encoding: str, content: Any) -> None:
    assert read(workspace, path, encoding=encoding) == content


@pytest.mark.parametrize(("path", "encoding"), [("docs/c.bin", "text"), ("docs/a.txt", "json")])
def test_a_file_that_is_not_what_it_should_be_fails_for_good(workspace: str, path: str, encoding: str) -> None:
    with pytest.raises(AirflowFailException, match=f"is not {encoding}"):
        read(workspace, path, encoding=encoding)


def test_a_file_that_is_too_large_for_an_xcom_is_not_even_transferred(
    control_plane: LocalControlPlane, workspace: str
) -> None:
    with pytest.raises(AirflowFailException, match=r"5 bytes, more than max_result_bytes=4.*to="):
        read(workspace, "docs/a.txt", max_result_bytes=4)
    assert requests_of(control_plane, "readWorkspaceFile") == []
    assert read(workspace, "docs/a.txt", max_result_bytes=5) == read(workspace, "docs/a.txt", max_result_bytes=None)


def test_a_file_of_any_size_is_written_to_a_path(workspace: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / "copy.bin"
    written = read(workspace, "docs/c.bin", to=str(target), max_result_bytes=0)
    assert target.read_bytes() == b"\xff"
    assert str(written).endswith(str(target))


def test_a_folder_gets_the_file_under_its_own_name(workspace: str, tmp_path: Path) -> None:
    read(workspace, "docs/a.txt", to=f"file://{tmp_path}/")
    assert (tmp_path / "a.txt").read_text() == "café"


@pytest.fixture
def memory_storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register fsspec's file system in memory with Airflow, as a provider does; no installed one brings it."""
    from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped, unused-ignore]

    registry = import_module("airflow.sdk.io.fs" if AIRFLOW_V_3_1_PLUS else "airflow.io")
    monkeypatch.setitem(registry._BUILTIN_SCHEME_TO_FS, "memory", lambda _conn_id, _options: MemoryFileSystem())
    registry._register_filesystems.cache_clear()
    yield
    registry._register_filesystems.cache_clear()


@pytest.mark.usefixtures("memory_storage")
def test_a_file_is_written_to_object_storage(workspace: str) -> None:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    written = read(workspace, "docs/a.txt", to="memory://bucket/reports/a.txt")
    # Older versions of universal-pathlib write an address in memory with three slashes.
    assert str(written).replace(":///", "://") == "memory://bucket/reports/a.txt"
    assert ObjectStoragePath(written).read_bytes() == "café".encode()


def test_a_version_is_read_by_its_id(client: HelmrClient, workspace: str) -> None:
    old = client.workspaces.retrieve(workspace).current_version_id
    an_exec(workspace, "echo new > docs/a.txt", task_id="change").start().finish()
    task_run(HelmrStopWorkspaceOperator, workspace_id=workspace, task_id="stop_again").start().finish()
    assert read(workspace, "docs/a.txt") == "new\n"
    assert read(workspace, "docs/a.txt", source="version", version_id=old) == "café"


@pytest.mark.parametrize("path", ["docs/none", "docs", "docs/link", "/etc/passwd", "../x", ""])
def test_what_is_no_regular_file_of_the_workspace_fails_for_good(workspace: str, path: str) -> None:
    with pytest.raises(AirflowFailException):
        read(workspace, path)


@pytest.mark.parametrize("options", [{"source": "live"}, {"version_id": "x"}, {"source": "version"}, {"encoding": "x"}])
def test_options_that_do_not_fit_are_refused_when_the_dag_is_parsed(options: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|goes with"):
        HelmrReadFileOperator(task_id="read", workspace_id="w", path="a", **options)


def test_a_missing_workspace_id_is_reported() -> None:
    with pytest.raises(AirflowFailException, match="workspace_id must be an id"):
        read(None, "a")


def test_a_directory_is_listed(workspace: str) -> None:
    assert [(entry["path"], entry["kind"]) for entry in listed(workspace)] == [("docs", "directory")]
    a, b, c, link = listed(workspace, "docs")
    assert (a["path"], a["kind"], a["size_bytes"], b["path"]) == ("docs/a.txt", "file", 5, "docs/b.json")
    assert (c["permissions"], link["kind"], link["link_target"]) == ("0600", "symlink", "a.txt")
    json.dumps([a, b, c, link])


def test_a_list_that_is_too_large_fails_for_good_or_goes_to_a_path(workspace: str, tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="more than max_result_bytes=10"):
        listed(workspace, "docs", max_result_bytes=10)
    target = tmp_path / "list.json"
    listed(workspace, "docs", to=str(target), max_result_bytes=10)
    assert next(entry["path"] for entry in json.loads(target.read_text())) == "docs/a.txt"


def test_a_list_is_read_page_by_page(control_plane: LocalControlPlane, client: HelmrClient) -> None:
    workspace = a_workspace(client)
    an_exec(workspace, "seq 501 | while read n; do : > $n; done").start().finish()
    task_run(HelmrStopWorkspaceOperator, workspace_id=workspace).start().finish()
    assert len(listed(workspace, max_result_bytes=None)) == 501
    assert len(requests_of(control_plane, "listWorkspaceFiles")) == 2
