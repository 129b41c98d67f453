"""The requests that the local control plane has received."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.polling import until, until_async

if TYPE_CHECKING:
    from helmr_provider.local import JournalEntry, LocalControlPlane


def requests_of(control_plane: LocalControlPlane, *operations: str) -> list[JournalEntry]:
    """Return the requests of these operations."""
    return [entry for entry in control_plane.journal if entry.operation in operations]


def until_requested(control_plane: LocalControlPlane, operation: str, times: int = 1) -> None:
    """Wait until an operation was requested so many times."""
    until(lambda: len(requests_of(control_plane, operation)) >= times)


async def until_requested_async(control_plane: LocalControlPlane, *operations: str, times: int = 1) -> None:
    """Wait until each operation was requested so many times."""
    await until_async(lambda: all(len(requests_of(control_plane, operation)) >= times for operation in operations))
