"""Deployments of an environment, and the names of its secrets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from helmr_provider.client.models.base import Instant, OptionalText, WireModel

_NOT_REACHED = "0001-01-01T00:00:00Z"


def _not_reached_is_absent(value: Any) -> Any:
    return None if value == _NOT_REACHED else value


# Go's zero time means that something has not happened (contract/behaviour.md section 21.10).
Reached = Annotated[datetime | None, BeforeValidator(_not_reached_is_absent)]


class DeployedTask(WireModel):
    """A task of a deployment (schema DeployedTask).

    :param id: id of the row; ``task_id`` is what a start takes.
    :param concurrency_limit: of its queue; None without one.
    :param ttl: how long its runs may stay queued; duration text.
    """

    id: str
    task_id: str
    file_path: OptionalText = None
    export_name: OptionalText = None
    handler_entrypoint: OptionalText = None
    bundle_digest: OptionalText = None
    bundle_format_version: int = 0
    queue_name: OptionalText = None
    concurrency_limit: int | None = None
    ttl: OptionalText = None
    created_at: Instant


class Sandbox(WireModel):
    """What workspaces are made from (schema Sandbox).

    :param sandbox_id: what creating a workspace takes.
    :param resource_floor: the least a machine must have.
    """

    nullable: ClassVar[frozenset[str]] = frozenset({"resource_floor", "network_policy"})

    id: str
    deployment_id: str
    sandbox_id: str
    fingerprint: str
    image_artifact_id: str = ""
    image_artifact_format: str = ""
    rootfs_digest: str = ""
    image_digest: str = ""
    image_format: str = ""
    workspace_mount_path: str = ""
    resource_floor: Any = None
    disk_floor_mib: int = 0
    network_policy: Any = None
    runtime_abi: str = ""
    guestd_abi: str = ""
    adapter_abi: str = ""
    filesystem_format: str = ""
    default_uid: int | None = None
    default_gid: int | None = None
    default_workdir: str = ""
    contract_version: int = 0
    created_at: Instant


class Deployment(WireModel):
    """Tasks and sandboxes that were built together (schema Deployment).

    :param status: queued, building, deployed or failed.
    :param tasks: empty in lists and after a promotion.
    :param building_at: when building began; None until then, and so on for the next three.
    """

    id: str
    version: str
    api_version: str = ""
    sdk_version: OptionalText = None
    cli_version: OptionalText = None
    bundle_format_version: int = 0
    worker_protocol_version: str = ""
    project_id: str
    environment_id: str
    content_hash: str = ""
    deployment_source: dict[str, Any] = Field(default_factory=dict[str, Any])
    build_manifest_digest: OptionalText = None
    deployment_manifest_digest: OptionalText = None
    status: str
    error: Any = None
    tasks: tuple[DeployedTask, ...] = ()
    created_at: Instant
    building_at: Reached = None
    built_at: Reached = None
    deployed_at: Reached = None
    failed_at: Reached = None


class StoredSecret(WireModel):
    """A secret of the environment, without its value, which cannot be read back (schema Secret)."""

    project_id: str
    environment_id: str
    name: str
    created_at: Instant
    updated_at: Instant
