# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""Deployments, and which one is current."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.client._internals import transport_of
from helmr_provider.client._sync._record_pages import all_records
from helmr_provider.client._wire.responses import read, read_list, read_member, same_id
from helmr_provider.client._wire.serialization import reason_body
from helmr_provider.client.models.deployments import Deployment

if TYPE_CHECKING:
    import builtins

    from helmr_provider.client._sync.client import HelmrClient
    from helmr_provider.client.durations import Duration
    from helmr_provider.client.models.events import EventRecord


class Deployments:
    """The deployments of the client's environment.

    :param client: the client that this namespace belongs to.
    """

    def __init__(self, client: HelmrClient) -> None:
        self._transport = transport_of(client)

    def list(self, *, limit: int | None = None, timeout: Duration | None = None) -> builtins.list[Deployment]:
        """List deployments, newest first and without their tasks (listDeployments). There is no cursor.

        :param limit: 1 to 200; the server's default is 50.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        value = self._transport.call("listDeployments", query={"limit": limit}, timeout=timeout)
        return read_list(Deployment, value, "deployments", "listDeployments")

    def current(self, *, timeout: Duration | None = None) -> Deployment | None:
        """Retrieve the current deployment, or None when nothing has been promoted yet (getCurrentDeployment).

        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        """
        value = self._transport.call("getCurrentDeployment", timeout=timeout)
        if isinstance(value, dict) and "deployment" in value and value["deployment"] is None:
            return None
        return read_member(Deployment, value, "deployment", "getCurrentDeployment")

    def retrieve(self, deployment: str | Deployment, *, timeout: Duration | None = None) -> Deployment:
        """Retrieve a deployment with its tasks (getDeployment).

        :param deployment: deployment id, or a deployment.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such deployment in this environment.
        """
        deployment_id = _id_of(deployment)
        value = self._transport.call("getDeployment", path={"deployment_id": deployment_id}, timeout=timeout)
        found = read(Deployment, value, "getDeployment")
        same_id(found.id, deployment_id, "getDeployment")
        return found

    def events(
        self,
        deployment: str | Deployment,
        *,
        cursor: str | int | None = None,
        page_size: int | None = None,
        timeout: Duration | None = None,
    ) -> builtins.list[EventRecord]:
        """Read all events of a deployment that are there, in order (getDeploymentEvents).

        :param deployment: deployment id, or a deployment.
        :param cursor: only what lies behind this event.
        :param page_size: events for each request, 1 to 200.
        :param timeout: limit for each request with its repeats: seconds, timedelta or text; the client's when left out.
        """
        path = {"deployment_id": _id_of(deployment)}
        records = all_records(
            self._transport, "getDeploymentEvents", path, cursor=cursor, page_size=page_size, timeout=timeout
        )
        return [record for record in records]

    def promote(
        self, deployment: str | Deployment, *, reason: str | None = None, timeout: Duration | None = None
    ) -> Deployment:
        """Make a deployment the current one (promoteDeployment).

        :param deployment: deployment id or version, or a deployment.
        :param reason: kept with the promotion.
        :param timeout: limit for the call with its repeats: seconds, timedelta or text; the client's when left out.
        :raises HelmrNotFoundError: no such deployment in this environment.
        """
        value = self._transport.call(
            "promoteDeployment", path={"deployment": _id_of(deployment)}, body=reason_body(reason), timeout=timeout
        )
        return read(Deployment, value, "promoteDeployment")


def _id_of(deployment: str | Deployment) -> str:
    return deployment if isinstance(deployment, str) else deployment.id
