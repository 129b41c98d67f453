"""From an Airflow connection to a Helmr client, blocking or not."""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import BaseHook, mask_secret
from asgiref.sync import sync_to_async

from helmr_provider.client._internals import transport_of
from helmr_provider.get_provider_info import CONNECTION_FIELDS, FIELD_BEHAVIOUR
from helmr_provider.hooks import DEFAULT_CONN_ID
from helmr_provider.hooks.connection import HelmrSettings
from helmr_provider.hooks.connection_test import probe

if TYPE_CHECKING:
    from helmr_provider.client import AsyncHelmrClient, HelmrClient
    from helmr_provider.hooks.connection import ConnectionLike


class HelmrHook(BaseHook):
    """Give access to the Helmr control plane that an Airflow connection of type ``helmr`` names.

    .. seealso:: Guide: :doc:`/how-to/connection`

    :param helmr_conn_id: Id of the connection.
    """

    conn_name_attr = "helmr_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "helmr"
    hook_name = "Helmr"

    def __init__(self, helmr_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.helmr_conn_id = helmr_conn_id

    @cached_property
    def settings(self) -> HelmrSettings:
        """Return the parsed connection; fetched once. Not for an event loop: there, use :meth:`aget_settings`.

        :raises HelmrConfigError: The connection is not usable; the message names every reason.
        """
        settings = self._parse(self.get_connection(self.helmr_conn_id))
        for secret in settings.secrets():
            mask_secret(secret)
        return settings

    async def aget_settings(self) -> HelmrSettings:
        """Return the parsed connection, fetched without blocking the event loop.

        :raises HelmrConfigError: The connection is not usable; the message names every reason.
        """
        if (known := vars(self).get("settings")) is not None:
            return known  # type: ignore[no-any-return]
        settings = self._parse(await get_async_connection(self.helmr_conn_id, hook=self))
        for secret in settings.secrets():
            # Masking tells Airflow's supervisor about the secret, which blocks.
            await sync_to_async(mask_secret)(secret)
        self.settings = settings
        return settings

    @cached_property
    def client(self) -> HelmrClient:
        """Return the client that blocks; made once.

        It waits without event streams: every waiting worker is a process of its own, and together they would exhaust
        the control plane's streams.
        """
        client = self.settings.client(max_streams=0)
        # Airflow never says that a task is done with its hook. Namespaces and views may outlive hook and client, as in
        # HelmrHook().client.tokens.create(); all of them share the connections.
        transport_of(client).http.close_when_collected()
        return client

    def close(self) -> None:
        """Close the client that blocks, if there is one; its next use makes a new one."""
        client: HelmrClient | None = vars(self).pop("client", None)
        if client is not None:
            client.close()

    def get_conn(self) -> HelmrClient:
        """Return the synchronous client."""
        return self.client

    async def get_async_client(self, *, max_streams: int = 0) -> AsyncHelmrClient:
        """Return a new client for an event loop; the caller closes it.

        :param max_streams: Event streams that it may hold open for waiting; the triggerer's shared client passes the
            connection's ``streams``.
        """
        settings = await self.aget_settings()
        # Importing the client and loading certificates read from disk.
        return await asyncio.to_thread(settings.async_client, max_streams=max_streams)

    def test_connection(self) -> tuple[bool, str]:
        """Say whether the connection works and what its key may do, without an effect on the control plane."""
        try:
            settings = self.settings
        except Exception as error:  # noqa: BLE001 - any error is the answer
            return False, str(error)
        return probe(settings)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the connection form's own fields, for Airflow before 3.2; later ones read them from provider info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget  # type: ignore[import-not-found, unused-ignore]
        from flask_babel import lazy_gettext  # type: ignore[import-not-found, unused-ignore]
        from wtforms import IntegerField, StringField  # type: ignore[import-untyped, import-not-found, unused-ignore]
        from wtforms.validators import Optional  # type: ignore[import-untyped, import-not-found, unused-ignore]

        def widget(field: dict[str, Any]) -> Any:
            # Not a BooleanField for verify: an unticked box would be stored as false, switching checks off unasked.
            kind = IntegerField if "integer" in field["schema"]["type"] else StringField
            return kind(
                lazy_gettext(field["label"]),
                widget=BS3TextFieldWidget(),
                validators=[Optional()],
                description=field["description"],
            )

        return {name: widget(field) for name, field in CONNECTION_FIELDS.items()}

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows its standard fields, for Airflow before 3.2."""
        return {name.replace("-", "_"): value for name, value in FIELD_BEHAVIOUR.items()}

    def _parse(self, connection: ConnectionLike) -> HelmrSettings:
        settings = HelmrSettings.parse(connection)
        if settings.unknown_extras:
            self.log.warning(
                "Connection %s has extras that mean nothing to Helmr: %s",
                self.helmr_conn_id,
                ", ".join(settings.unknown_extras),
            )
        return settings
