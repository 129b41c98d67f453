"""What Airflow learns about this provider without importing anything else of it."""

from __future__ import annotations

from typing import Any

_INTEGRATION = "Helmr"
_GUIDES = ("connection", "sessions", "approvals", "conversations", "workspaces", "schedules", "events", "notifications")


def _field(label: str, description: str, kind: str = "string", **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}


# Airflow 3.2 and later draw the connection form from these; the hook gives the same to older ones.
CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "console_url": _field("Console address", "Base address for links to the Helmr console. Default: the URL above."),
    "session_prefix": _field(
        "Session prefix",
        "First part of the external ids of sessions started here, without a colon. Airflow installations that share a "
        "Helmr environment must differ in it. Default: airflow.",
        maxLength=64,
    ),
    "streams": _field(
        "Event streams",
        "Event streams that one triggerer may hold open; all other waits are served together by polling. Triggerers x "
        "streams must stay well below the control plane's pool. Default: 4.",
        "integer",
        minimum=0,
    ),
    "timeout": _field("Request timeout", "Limit of one request, in seconds. Default: 30.", "number"),
    "connect_timeout": _field(
        "Connect timeout", "Limit for reaching the control plane, in seconds. Default: 5.", "number"
    ),
    "ca_bundle": _field("CA bundle", "Path of the certificates to check the control plane's certificate with."),
    "client_cert": _field("Client certificate", "Path of a client certificate, for a control plane that asks for one."),
    "client_key": _field("Client key", "Path of its key, unless the certificate's file holds it."),
    "headers": _field(
        "Headers",
        'More request headers as a JSON object, such as {"X-Forwarded-Access": "…"}; masked in logs.',
        format="password",
    ),
    "verify": _field(
        "Verify certificate", "Set to false to accept any certificate. Default: true.", enum=["true", "false"]
    ),
    "proxy": _field("HTTP proxy", "Address of a proxy to reach the control plane through.", format="password"),
    "project_id": _field("Project id", "For a user-session credential only; refused with an API key."),
    "environment_id": _field("Environment id", "For a user-session credential only; refused with an API key."),
    "airflow_tab": _field(
        "Tab in Airflow",
        "What the Helmr tab of task instances and DAG runs shows: full, status (no output, no reasons of failures) or "
        "off. Default: full.",
        enum=["full", "status", "off"],
    ),
}

FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["login", "extra"],
    "relabeling": {"host": "Host or URL", "password": "API key"},
    "placeholders": {
        "host": "https://helmr.example.com",
        "schema": "https",
        "password": "hlmr_sk_...",
    },
}


def get_provider_info() -> dict[str, Any]:
    """Describe the provider to Airflow (entry point ``apache_airflow_provider``)."""

    def modules(*names: str) -> list[dict[str, Any]]:
        return [{"integration-name": _INTEGRATION, "python-modules": [f"helmr_provider.{name}" for name in names]}]

    return {
        "package-name": "airflow-provider-helmr",
        "name": "Helmr",
        "description": "Run durable coding-agent sessions on Helmr, a self-hosted agent runtime.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://helmr.dev/docs/",
                "how-to-guide": [f"/docs/how-to/{name}.md" for name in _GUIDES],
                "logo": "/integration-logos/helmr.svg",
                "tags": ["service"],
            }
        ],
        "operators": modules(
            "operators.approval",
            "operators.schedule",
            "operators.session",
            "operators.token",
            "operators.workspace",
        ),
        "sensors": modules(
            "sensors.run",
            "sensors.session",
            "sensors.token",
            "sensors.workspace",
        ),
        "triggers": modules(
            "triggers.approval",
            "triggers.events",
            "triggers.run",
            "triggers.session",
            "triggers.token",
            "triggers.workspace",
        ),
        "hooks": modules("hooks.helmr"),
        "notifications": ["helmr_provider.notifications.HelmrNotifier"],
        "connection-types": [
            {
                "connection-type": "helmr",
                "hook-class-name": "helmr_provider.hooks.helmr.HelmrHook",
                "hook-name": "Helmr",
                "conn-fields": CONNECTION_FIELDS,
                "ui-field-behaviour": FIELD_BEHAVIOUR,
            }
        ],
        "task-decorators": [
            {"name": "helmr_session", "class-name": "helmr_provider.decorators.helmr_session_task"},
        ],
        "extra-links": [
            "helmr_provider.links.HelmrSessionLink",
            "helmr_provider.links.HelmrRunLink",
            "helmr_provider.links.HelmrTokenLink",
            "helmr_provider.links.HelmrApprovalLink",
            "helmr_provider.links.HelmrWorkspaceLink",
        ],
    }
