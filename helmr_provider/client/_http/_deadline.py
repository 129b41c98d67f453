"""Blocking connections that keep the deadline of a whole call.

httpcore's limits are limits of silence: a peer that sends one byte now and then would never reach them. Here every read
and write of the calling thread also ends at the thread's deadline. Name resolution cannot be interrupted.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

_T = TypeVar("_T")

# A peer that takes a few bytes at a time must not keep one write going.
_WRITE = 64 * 1024


class _Thread(threading.local):
    deadline = float("inf")


_thread = _Thread()


def until(deadline: float, function: Callable[..., _T], *arguments: object) -> _T:
    """Call a function whose reads and writes end at a time.

    :param deadline: of ``time.monotonic``.
    """
    before = _thread.deadline
    # Without a context manager, like ``_reentrancy.inside``: a past deadline that stays would fail all later calls.
    _thread.deadline = min(before, deadline)
    try:
        return function(*arguments)
    finally:
        _thread.deadline = before


def _left(timeout: float | None, late: type[httpcore.TimeoutException]) -> float | None:
    if _thread.deadline == float("inf"):
        return timeout
    left = _thread.deadline - time.monotonic()
    if left <= 0:
        raise late
    return left if timeout is None else min(timeout, left)


def interrupt(stream: httpcore.NetworkStream) -> None:
    """Make another thread that reads or writes a connection fail now."""
    connection: socket.socket | None = stream.get_extra_info("socket")
    if connection is not None:
        # Closing a socket does not wake a thread that reads it; shutting it down does.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, streams: weakref.WeakValueDictionary[int, _Stream]) -> None:
        self._stream = stream
        self._streams = streams
        streams[id(self)] = self

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITE):
            self._stream.write(buffer[start : start + _WRITE], _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._streams)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class DeadlineBackend(httpcore.SyncBackend):
    """Open connections that keep the deadline of the thread that uses them."""

    def __init__(self) -> None:
        self._streams: weakref.WeakValueDictionary[int, _Stream] = weakref.WeakValueDictionary()

    def interrupt(self) -> None:
        """Make all threads that read or write a connection fail now."""
        # Neither a WeakSet nor ``values()``: their iteration fails when another thread connects during it.
        for reference in self._streams.valuerefs():
            stream = reference()
            if stream is not None:
                interrupt(stream)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect."""
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, left, local_address, socket_options), self._streams)
