"""The environment variables that point clients and Airflow to a control plane."""

from __future__ import annotations

import json


def variables(url: str, api_key: str) -> dict[str, str]:
    """Return the variables of the client, and Airflow's connection `helmr_default`.

    :param url: base URL of the control plane.
    :param api_key: an API key.
    """
    connection = {"conn_type": "helmr", "host": url, "password": api_key}
    return {"HELMR_API_URL": url, "HELMR_API_KEY": api_key, "AIRFLOW_CONN_HELMR_DEFAULT": json.dumps(connection)}
