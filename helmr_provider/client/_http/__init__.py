"""HTTP/1.1: the only package that imports httpx and httpcore, so that another HTTP library is a change of this package.

Certificates, headers and proxy addresses are read by httpx. Requests go through the connection pools of httpcore, which
httpx itself uses, without httpx's client above them: its cookies, its decompression without a limit and its log lines
with whole URLs must not happen here, and the deadline of a whole call needs the pools' network backends. HTTP/2 is off:
with it the 101st stream waits behind the first hundred.
``_async`` and ``_sync`` import :class:`AsyncHttp` and :class:`Http`; the other modules are theirs alone.
"""

from __future__ import annotations

from helmr_provider.client._http._asynchronous import AsyncHttp, AsyncResponse
from helmr_provider.client._http._blocking import Http, Response

__all__ = ["AsyncHttp", "AsyncResponse", "Http", "Response"]
