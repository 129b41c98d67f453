"""The one deployment of a local control plane, as the API answers it: its tasks, sandboxes and events."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from helmr_provider.local._core import API_VERSION
from helmr_provider.local.common.clock import rfc3339
from helmr_provider.local.common.errors import ApiError
from helmr_provider.local.common.ids import stable_uuid
from helmr_provider.local.common.jsontext import dumps

if TYPE_CHECKING:
    from helmr_provider.local._core import Core
    from helmr_provider.local.definitions.tasks import TaskDefinition

MOUNT_PATH = "/workspace"
_NEVER = "0001-01-01T00:00:00Z"
_BUNDLE_FORMAT = 2
_FLOOR = {"disk_mib": 4096, "milli_cpu": 1000, "memory_mib": 1024}
_EVENTS = (
    ("control", "queued", "Deployment queued"),
    ("worker", "building", "Deployment build started"),
    ("worker", "deployed", "Deployment build completed"),
)


def tasks(core: Core) -> list[dict[str, Any]]:
    """Return the deployed tasks by id, as lists answer them: without the format of their bundle."""
    return [_task(core, core.deployment.tasks[task_id], 0) for task_id in sorted(core.deployment.tasks)]


def task(core: Core, task_id: str) -> dict[str, Any]:
    """Return a deployed task.

    :raises ApiError: 404 if there is none.
    """
    definition = core.deployment.tasks.get(task_id)
    if definition is None:
        raise ApiError(404, "task not found")
    return _task(core, definition, _BUNDLE_FORMAT)


def sandboxes(core: Core) -> list[dict[str, Any]]:
    """Return the sandboxes that the deployed tasks run in, by id."""
    return [sandbox(core, sandbox_id) for sandbox_id in sorted(core.deployment.sandboxes)]


def sandbox(core: Core, sandbox_id: str) -> dict[str, Any]:
    """Return a sandbox: here only a name, since commands run on this machine as they are.

    :raises ApiError: 404 if there is none.
    """
    if sandbox_id not in core.deployment.sandboxes:
        raise ApiError(404, "sandbox not found")
    return {
        "id": sandbox_row_id(sandbox_id),
        "deployment_id": core.deployment.id,
        "sandbox_id": sandbox_id,
        "fingerprint": fingerprint(sandbox_id),
        "image_artifact_id": stable_uuid("image", sandbox_id),
        "image_artifact_format": "oci-tar",
        "rootfs_digest": _digest("rootfs", sandbox_id),
        "image_digest": _digest("image", sandbox_id),
        "image_format": "oci-tar",
        "workspace_mount_path": MOUNT_PATH,
        "resource_floor": _FLOOR,
        "disk_floor_mib": _FLOOR["disk_mib"],
        "network_policy": {"internet": True},
        "runtime_abi": "helmr.runtime.v0",
        "guestd_abi": "helmr.guestd.v0",
        "adapter_abi": "helmr.adapter.v0",
        "filesystem_format": "ext4",
        "default_workdir": "",
        "contract_version": 1,
        "created_at": _deployed_at(core),
    }


def sandbox_row_id(sandbox_id: str) -> str:
    """Return the id of a deployed sandbox."""
    return stable_uuid("sandbox", sandbox_id)


def fingerprint(sandbox_id: str) -> str:
    """Return the fingerprint of a sandbox."""
    return _digest("sandbox", sandbox_id)


def rendered(core: Core, environment_id: str, *, with_tasks: bool) -> dict[str, Any]:
    """Return the deployment; lists and promotions answer it without its tasks."""
    source = dumps([_task(core, definition, 0) for definition in core.deployment.tasks.values()])
    content = _digest("source", source)
    deployed_at = _deployed_at(core)
    return {
        "id": core.deployment.id,
        "version": core.deployment.version,
        "api_version": API_VERSION,
        "sdk_version": core.deployment.build_version,
        "cli_version": core.deployment.build_version,
        "bundle_format_version": _BUNDLE_FORMAT,
        "worker_protocol_version": "helmr.worker.v1",
        "project_id": core.project_id(environment_id),
        "environment_id": environment_id,
        "content_hash": content,
        "deployment_source": {
            "digest": content,
            "size_bytes": len(source.encode()),
            "media_type": "application/vnd.helmr.deployment-source.v0.tar",
        },
        "build_manifest_digest": _digest("build manifest", source),
        "deployment_manifest_digest": _digest("deployment manifest", source),
        "status": "deployed",
        "tasks": tasks(core) if with_tasks else [],
        "created_at": deployed_at,
        "building_at": deployed_at,
        "built_at": deployed_at,
        "deployed_at": deployed_at,
        "failed_at": _NEVER,
    }


def events(core: Core) -> list[dict[str, Any]]:
    """Return the deployment's events, from queued to deployed."""
    return [
        {
            "id": str(number),
            "deployment_id": core.deployment.id,
            "trace": {"trace_id": ""},
            "category": "lifecycle",
            "severity": "info",
            "source": source,
            "kind": f"deployment.{status}",
            "message": message,
            "at": _deployed_at(core),
            "occurred_at": _deployed_at(core),
            "redaction_class": "internal",
            "attributes": {"status": status},
        }
        for number, (source, status, message) in enumerate(_EVENTS, 1)
    ]


def _task(core: Core, definition: TaskDefinition, bundle_format: int) -> dict[str, Any]:
    function = definition.function
    file_path = f"{function.__module__.replace('.', '/')}.py"
    export = getattr(function, "__qualname__", definition.id)
    queue = definition.queues[0].name
    limit = core.deployment.queues[queue]
    return {
        "id": stable_uuid("task", definition.id),
        "task_id": definition.id,
        "file_path": file_path,
        "export_name": export,
        "handler_entrypoint": f"{file_path}#{export}",
        "bundle_digest": _digest("task", definition.id),
        "bundle_format_version": bundle_format,
        "queue_name": queue,
        **({} if limit is None else {"concurrency_limit": limit}),
        "created_at": _deployed_at(core),
    }


def _deployed_at(core: Core) -> str:
    """Return when this database first saw a deployment."""
    row = core.db.one("SELECT value FROM meta WHERE name = 'deployed_at'")
    if row is None:
        now = core.clock.now()
        core.db.insert("meta", name="deployed_at", value=str(now))
        return rfc3339(now)
    return rfc3339(int(row["value"]))


def _digest(*parts: str) -> str:
    return f"sha256:{hashlib.sha256('/'.join(parts).encode()).hexdigest()}"
