"""HTTP/1.1 over httpcore: the only package that knows it, so that another HTTP library is a change of this package.

httpcore rather than httpx, because the client uses nothing of what httpx adds: cookies, redirects, decompression
without a limit, and log lines with whole URLs. HTTP/2 is off: with it the 101st stream waits behind the first hundred.
``_async`` and ``_sync`` import :class:`AsyncHttp` and :class:`Http`; the other modules are theirs alone.
"""

from __future__ import annotations

from helmr_provider.client._http._asynchronous import AsyncHttp, AsyncResponse
from helmr_provider.client._http._blocking import Http, Response

__all__ = ["AsyncHttp", "AsyncResponse", "Http", "Response"]
