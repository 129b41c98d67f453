"""Whether the control plane is up."""

from __future__ import annotations

from helmr_provider.client.models.base import WireModel


class Health(WireModel):
    """Answer of the health routes (schema Health).

    :param status: ok, ready or not_ready.
    """

    status: str

    @property
    def is_ok(self) -> bool:
        """Whether it serves requests."""
        return self.status in {"ok", "ready"}
