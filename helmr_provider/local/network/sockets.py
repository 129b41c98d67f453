"""Operations on single sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

# Lingering for zero seconds makes the close a reset.
_NO_LINGER = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Reset a connection (RST): unsent data is lost, and the peer is notified immediately."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def hold_port(listening: socket.socket) -> socket.socket | None:
    """Return a socket that keeps the port of another, so that nobody else gets it when that one is closed.

    Connections to the port are refused as long as nothing listens. None except on Linux, and if the system has no
    descriptors left.

    :param listening: a socket that is bound to the port.
    """
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError), contextlib.ExitStack() as unfinished:
        holding = unfinished.enter_context(socket.socket(listening.family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        # Sockets that listen at the port, and connections that have just been closed, have it as well.
        share_port(listening, True)
        share_port(holding, True)
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holding.bind(listening.getsockname())
        holding.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        unfinished.pop_all()
        return holding
    return None


def share_port(each: socket.socket, shared: bool) -> None:  # noqa: FBT001
    """Set whether a socket shares its port with other sockets of this user that allow it too."""
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
