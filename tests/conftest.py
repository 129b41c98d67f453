"""What all tests share: where Airflow keeps its files, and the recordings of the real control plane."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Airflow reads its configuration at import, so this must stand before anything imports it.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="helmr-airflow-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "False")

CONTRACT = Path(os.environ.get("HELMR_CONTRACT", Path(__file__).resolve().parents[1] / "../shared/contract")).resolve()
