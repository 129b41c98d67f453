"""What all tests share: where Airflow keeps its files, the recordings, and a local control plane with a connection."""

from __future__ import annotations

import atexit
import base64
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

ROOT = Path(__file__).resolve().parents[1]

# Airflow reads its configuration at import, so this must stand before anything imports it. Test processes beside each
# other have a folder each.
if "AIRFLOW_HOME" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="helmr-airflow-")
    atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
    Path(os.environ["AIRFLOW_HOME"], "dags").mkdir()
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "False")
# Airflow 2 makes up none, and then keeps variables as they are.
os.environ.setdefault("AIRFLOW__CORE__FERNET_KEY", base64.urlsafe_b64encode(os.urandom(32)).decode())
# Airflow 2 warns of its own default, at an import that can happen in any test.
os.environ.setdefault("AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY", "True")

# The usual soft limit of 1,024 open files is too low for a thousand followers and their server in one process.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if _soft < (wanted := min(_hard, 4096)):
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, _hard))

# A busy machine is no mistake: properties are not timed.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

# Sections of the summary, and the lines that tests have recorded for them with ``record_property``.
REPRODUCED = "recordings reproduced by the local control plane"
MEASURED = "measured"

CONTRACT = ROOT / "contract"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have recorded, in whatever process."""
    ended = [report for reports in terminalreporter.stats.values() for report in reports]
    recorded = [entry for report in ended if getattr(report, "when", "") == "call" for entry in report.user_properties]
    for section in (MEASURED, REPRODUCED):
        if lines := [line for name, line in recorded if name == section]:
            terminalreporter.section(section)
            for line in lines:
                terminalreporter.line(str(line))


@pytest.fixture
def control_plane() -> Iterator[LocalControlPlane]:
    """A local control plane with its example tasks on a free loopback port."""
    from helmr_provider.local import LocalControlPlane

    with LocalControlPlane() as server:
        yield server


@pytest.fixture
def client(control_plane: LocalControlPlane) -> Iterator[HelmrClient]:
    """A client of the local control plane, for changes by another client."""
    from helmr_provider.client import HelmrClient

    with HelmrClient(url=control_plane.url, api_key=control_plane.api_key, max_streams=0) as client:
        yield client


@pytest.fixture
def task_log(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Return what was logged since the last call. Airflow 3.1 prints tasks' logs here, older versions log them."""
    caplog.set_level("INFO")

    def read() -> str:
        from helmr_provider._common.versions import AIRFLOW_V_3_1_PLUS

        printed, logged = capsys.readouterr().out, caplog.text
        caplog.clear()
        # Older versions also print what they log.
        return printed + logged if AIRFLOW_V_3_1_PLUS else logged

    return read


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Define an Airflow connection in the environment and return its id."""

    def define(conn_id: str = "helmr_default", *, extra: dict[str, Any] | None = None, **members: Any) -> str:
        connection = {"conn_type": "helmr", **members, "extra": extra or {}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
        return conn_id

    return define


@pytest.fixture
def helmr_connection(connect: Callable[..., str], control_plane: LocalControlPlane) -> str:
    """The id of a connection to the local control plane, with a key that has all scopes."""
    return connect(host=control_plane.url, password=control_plane.api_key)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was logged; some versions of Airflow print, others log as Python does."""
    return lambda: caplog.text + "".join(capfd.readouterr())


@pytest.fixture(scope="session")
def airflow_db() -> Path:
    """A migrated metadata database, which ``dag.test()`` needs; migrated once per Airflow version and checkout."""
    from airflow import __version__

    database = Path(os.environ["AIRFLOW_HOME"]) / "airflow.db"
    migrated = ROOT / ".cache" / f"airflow-{__version__}.db"
    if not migrated.exists():
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True, timeout=110)
        migrated.parent.mkdir(exist_ok=True)
        # Named by process and moved, so that two simultaneous test runs never read half a file.
        draft = migrated.with_suffix(f".{os.getpid()}")
        shutil.copyfile(database, draft)
        draft.replace(migrated)
    else:
        shutil.copyfile(migrated, database)
    return database


@pytest.fixture
def run_dag(airflow_db: Path) -> Callable[..., Any]:
    """Run a DAG that a test defined with ``dag.test()`` and return its DAG run."""

    def run(dag: Any, **options: Any) -> Any:
        from helmr_provider._common.versions import AIRFLOW_V_3_1_PLUS

        if AIRFLOW_V_3_1_PLUS:
            # Airflow runs only what is in its database, and searches for that in DAG files.
            from airflow.dag_processing.bundles.manager import DagBundlesManager
            from airflow.dag_processing.collection import update_dag_parsing_results_in_db
            from airflow.serialization.serialized_objects import LazyDeserializedDAG
            from airflow.utils.session import create_session

            with create_session() as session:
                DagBundlesManager().sync_bundles_to_db(session=session)  # type: ignore[no-untyped-call, unused-ignore]
            with create_session() as session:
                update_dag_parsing_results_in_db(
                    "dags-folder", None, [LazyDeserializedDAG.from_dag(dag)], {}, None, set(), session=session
                )
        return dag.test(**options)

    return run
