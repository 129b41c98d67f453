"""Which Airflow this is, for the few places where its versions differ in kind."""

from __future__ import annotations

from airflow import __version__ as airflow_version
from packaging.version import Version

_BASE = Version(Version(airflow_version).base_version)

AIRFLOW_V_3_0_PLUS: bool = Version("3.0.0") <= _BASE
AIRFLOW_V_3_1_PLUS: bool = Version("3.1.0") <= _BASE
AIRFLOW_V_3_1_1_PLUS: bool = Version("3.1.1") <= _BASE
AIRFLOW_V_3_1_3_PLUS: bool = Version("3.1.3") <= _BASE
AIRFLOW_V_3_3_PLUS: bool = Version("3.3.0") <= _BASE

__all__ = [
    "AIRFLOW_V_3_0_PLUS",
    "AIRFLOW_V_3_1_1_PLUS",
    "AIRFLOW_V_3_1_3_PLUS",
    "AIRFLOW_V_3_1_PLUS",
    "AIRFLOW_V_3_3_PLUS",
]
