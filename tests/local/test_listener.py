"""The socket that the control plane listens on."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from helmr_provider.local import LocalControlPlane


def test_small_pieces_are_sent_at_once() -> None:
    """Else the body of each answer on a kept connection waits for the acknowledgement of its head."""
    with LocalControlPlane() as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port or 0), timeout=10) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
            (accepted,) = server._running.listener._state.connections
            told = accepted.transport.get_extra_info("socket")  # type: ignore[attr-defined, unused-ignore]
            assert told.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
